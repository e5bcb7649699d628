/** Why one host does not take a VM process. */
export interface Obstacle {
  /** Without figures, for counting. */
  readonly kind: string;
  /** To be read after the host's name. */
  readonly text: string;
}

/** Up to so many hosts are named one by one. */
const NAMED_MAX = 8;
const EXAMPLES = 2;

/** One line for all hosts. */
export function linesOf(what: string, obstacles: readonly (readonly [host: string, Obstacle])[]): string {
  if (obstacles.length === 0) return `no host takes ${what}: the cluster has none`;
  if (obstacles.length <= NAMED_MAX)
    return `no host takes ${what}: ${obstacles.map(([host, { text }]) => `${host} ${text}`).join('; ')}`;
  const kinds = new Map<string, string[]>();
  for (const [host, { kind, text }] of obstacles) {
    const said = kinds.get(kind);
    if (said) said.push(`${host} ${text}`);
    else kinds.set(kind, [`${host} ${text}`]);
  }
  const counted = [...kinds].map(([kind, said]) =>
    said.length <= EXAMPLES
      ? said.join('; ')
      : `${said.length} hosts: ${kind}, as ${said.slice(0, EXAMPLES).join(' and ')}`,
  );
  return `no host takes ${what}: ${counted.join('; ')}`;
}
