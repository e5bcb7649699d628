import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MessageChannel } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { repositoryRoot } from '../src/host/image/repository.ts';
import type * as RegionCompiler from '../src/host/region-compiler.ts';
import { Code } from '../src/wasm/code.ts';
import { ModuleBuilder } from '../src/wasm/module.ts';
import { instantiate, sharedMemory } from '../src/wasm/webassembly.ts';

/** The thread runs what was built. */
async function built(): Promise<typeof RegionCompiler> {
  return import(pathToFileURL(join(repositoryRoot(), 'dist/src/host/region-compiler.js')).href);
}

function moduleThatGives(value: number): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder(1);
  module.addFunction('give', { parameters: [], results: ['i32'] }, [], new Code().i32(value));
  return module.build();
}

async function until<Value>(give: () => Value | undefined): Promise<Value> {
  for (;;) {
    const value = give();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

it('a thread compiles what it is given, and gives it back under its number', async () => {
  const { modulesFrom, startRegionCompiler } = await built();
  const { port1, port2 } = new MessageChannel();
  startRegionCompiler(port2, (reason) => expect.unreachable(reason));
  const modules = modulesFrom(port1);
  const values = new Map([7, 8, 9].map((value) => [modules.compile(moduleThatGives(value)), value]));
  while (values.size > 0) {
    const { number, module } = await until(() => modules.take());
    const { exports } = instantiate(module, { memory: sharedMemory(1) });
    expect(exports.give!()).toBe(values.get(number));
    values.delete(number);
  }
  port1.close();
});

it('bytes that are no module end it, with a reason', async () => {
  const { modulesFrom, startRegionCompiler } = await built();
  const { port1, port2 } = new MessageChannel();
  let failure: string | undefined;
  startRegionCompiler(port2, (reason) => {
    failure = reason;
  });
  modulesFrom(port1).compile(Uint8Array.of(1, 2, 3));
  expect(await until(() => failure)).toMatch(/^its regions are not compiled: WebAssembly/);
  port1.close();
});
