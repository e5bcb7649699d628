import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { z } from 'zod';
import { failed, ok, type Result } from '../../base/result.ts';
import { RECIPES, type Recipe, recipeNamed } from './recipes.ts';

const MEGABYTES_MAX = 2 ** 20;
const KEY = /^(ssh-\S+|ecdsa-\S+|sk-\S+) [A-Za-z0-9+/=]+( .*)?$/;
const HOST_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** What somebody asks for, on the command line or in a file; every wrong part has its own words. */
const REQUEST = z.strictObject({
  name: z
    .string()
    .regex(HOST_NAME, 'name: letters, digits and - only, like web-1')
    .refine((name) => recipeNamed(name) === undefined, {
      error: `name: ${RECIPES.map(({ name }) => name).join(', ')} are images of Lockstep's own: take another`,
    }),
  template: z.enum(['server', 'demo'], { error: 'template: server or demo' }).default('server'),
  packages: z
    .array(
      z
        .string()
        .regex(/^[a-z0-9][a-z0-9+.-]+$/, { error: ({ input }) => `packages: ${input} is no package's name` }),
    )
    .default([]),
  size: z
    .string()
    .regex(/^\d+[MG]$/, 'size: write it like 900M or 2G')
    .optional(),
  hostname: z.string().regex(HOST_NAME, 'hostname: one label, like web-1').optional(),
  keys: z.array(z.string().trim().regex(KEY, 'keys: a public key of ssh on one line')).default([]),
});

export type ImageRequest = z.input<typeof REQUEST>;

/** The recipe that a request comes to, or all that is wrong with it in one line. */
export function recipeOf(request: unknown): Result<Recipe> {
  const parsed = REQUEST.safeParse(request);
  if (!parsed.success) return failed(parsed.error.issues.map(complaint).join('; '));
  const { name, template, packages, size, keys, hostname } = parsed.data;
  const base = recipeNamed(template)!;
  const megabytes = size === undefined ? (base.diskMegabytes ?? 0) : megabytesOf(size);
  if (megabytes > MEGABYTES_MAX) return failed(`size: ${size} is too much`);
  if (base.installed === undefined && (keys.length > 0 || hostname !== undefined))
    return failed(`the template ${template} has no ssh and no name of its own: leave keys and hostname out`);
  const texts = [
    { to: 'etc/hostname', mode: 0o644, text: `${hostname ?? name}\n` },
    ...(keys.length === 0
      ? []
      : [{ to: 'root/.ssh/authorized_keys', mode: 0o600, text: `${keys.join('\n')}\n` }]),
  ];
  return ok({
    ...base,
    name,
    summary: [`template ${template}`, ...packages].join(', '),
    packages: [...new Set([...base.packages, ...packages])],
    diskMegabytes: megabytes,
    ...(base.installed === undefined ? {} : { texts }),
  });
}

/** A request in a YAML or JSON file. */
export async function readRequest(file: string): Promise<Result<Record<string, unknown>>> {
  try {
    const value: unknown = parse(await readFile(file, 'utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return ok(value as Record<string, unknown>);
    return failed(`${file}: write name: and packages: [...] there`);
  } catch (error) {
    return failed(`${file}: ${(error as Error).message.split('\n')[0]}`);
  }
}

function megabytesOf(size: string): number {
  return Number(size.slice(0, -1)) * (size.endsWith('G') ? 1024 : 1);
}

function complaint(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `there is no ${issue.keys.join(', ')}`;
  const [name] = issue.path;
  return issue.message.startsWith(`${String(name)}:`) ? issue.message : `${String(name)}: ${issue.message}`;
}
