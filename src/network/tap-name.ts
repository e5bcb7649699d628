/** IFNAMSIZ of Linux, without the byte behind the name. */
const LENGTH_MAX = 15;

/** What is wrong with this as a TAP's name [Linux dev_valid_name]; "%" would be a pattern for names. */
export function tapNameError(name: string): string | undefined {
  if (name.length > LENGTH_MAX) return `TAP name ${name} is too long: ${LENGTH_MAX} characters at most`;
  if (/^[!-~]+$/.test(name) && !/[/:%]/.test(name) && name !== '.' && name !== '..') return undefined;
  return `${JSON.stringify(name)} is no name for a TAP: 1 to ${LENGTH_MAX} letters, digits, "-", "_" or "."`;
}
