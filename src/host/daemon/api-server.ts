import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import swagger from '@fastify/swagger';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { z } from 'zod';
import { failed, ok, type Result } from '../../base/result.ts';
import type { HostPort } from '../../transport/address.ts';
import { FT_VERBS, type FtVerb, type HealthView, POWER_VERBS, type PowerVerb } from '../api.ts';
import { followApi } from './api-client.ts';
import { noSuchVm } from './cluster-member.ts';
import { clusterView, hostView, vmView } from './cluster-view.ts';
import type { HostCertificate } from './host-certificate.ts';
import type { HostDaemon } from './host-daemon.ts';
import { VM_FILE } from './vm-file.ts';
import type { VmVerbs } from './vm-verbs.ts';

export const VERSION = '0.1.0';

export interface ApiOptions {
  readonly daemon: HostDaemon;
  readonly verbs: VmVerbs;
  readonly storeName: string;
}

const BODY_BYTES_MAX = 1024 * 1024;
const PROCESS_BYTES_MAX = 2 ** 40;
/** A client that reads nothing is cut off. */
const UNREAD_BYTES_MAX = 4 * 1024 * 1024;
/** What daemons and users order; `save` would write any file of this account. */
const ORDERS = [
  ...['power-button', 'power-off', 'reset', 'pause', 'resume', 'limit', 'connect', 'disconnect', 'console'],
  ...['protect', 'unprotect', 'candidate', 'migrate-backup', 'switch-over', 'move'],
];
const CONSOLE_AGAIN_MS = 50;

const vmParameters = { type: 'object', properties: { vm: { type: 'string' } }, required: ['vm'] };
const idParameters = { type: 'object', properties: { id: { type: 'string' } }, required: ['id'] };

/** The API on a unix socket that only this account can open: no token. */
export async function serveOnSocket(options: ApiOptions, path: string): Promise<Result<FastifyInstance>> {
  const server = fastify({ bodyLimit: BODY_BYTES_MAX, forceCloseConnections: true });
  await addRoutes(server, options);
  await rm(path, { force: true });
  try {
    await server.listen({ path });
    return ok(server);
  } catch (error) {
    return failed(`the API cannot listen on ${path}: ${(error as Error).message}`);
  }
}

/** The API on TCP: TLS 1.3 with the host's certificate, and the cluster's token on every call. */
export async function serveOnTcp(
  options: ApiOptions,
  at: HostPort,
  { certificate, key }: HostCertificate,
  token: string,
): Promise<Result<{ server: FastifyInstance; port: number }>> {
  let server: FastifyInstance;
  try {
    server = fastify({
      bodyLimit: BODY_BYTES_MAX,
      forceCloseConnections: true,
      https: { cert: certificate, key, minVersion: 'TLSv1.3' },
    }) as unknown as FastifyInstance;
  } catch (error) {
    return failed(
      `certificate.pem and key.pem in the state folder are no pair (${(error as Error).message}): delete both`,
    );
  }
  const expected = digest(`Bearer ${token}`);
  server.addHook('onRequest', async (request, reply) => {
    if (timingSafeEqual(digest(request.headers.authorization ?? ''), expected)) return;
    await reply.code(401).send({ error: 'wrong token: the file "token" in the host\'s state folder has it' });
  });
  await addRoutes(server, options);
  try {
    await server.listen({ host: at.host, port: at.port });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why =
      code === 'EADDRINUSE' ? 'is in use' : code === 'EADDRNOTAVAIL' ? 'is no address of this host' : message;
    return failed(`--listen ${at.host}:${at.port} ${why}`);
  }
  const address = server.server.address();
  return ok({ server, port: typeof address === 'object' && address ? address.port : at.port });
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

async function addRoutes(server: FastifyInstance, options: ApiOptions): Promise<void> {
  await server.register(swagger, {
    openapi: {
      info: {
        title: 'Lockstep host',
        version: VERSION,
        description: 'Fault-tolerant virtual machines: this host and, through it, the cluster.',
      },
    },
  });
  server.setErrorHandler(async (error: Error & { statusCode?: number }, _request, reply) =>
    reply.code(error.statusCode ?? 500).send({ error: error.message }),
  );
  server.setNotFoundHandler(async (request, reply) =>
    reply.code(404).send({
      error: `there is nothing at ${request.method} ${request.url}: GET /v1/openapi.json lists what there is`,
    }),
  );
  await server.register(async (routes) => {
    addHostRoutes(routes, options);
    addVmRoutes(routes, options);
    addInstanceRoutes(routes, options);
  });
  server.get('/v1/openapi.json', { schema: { summary: 'This description' } }, async () => server.swagger());
}

function addHostRoutes(server: FastifyInstance, { daemon, storeName }: ApiOptions): void {
  server.get(
    '/v1/health',
    { schema: { summary: 'Whether the daemon is well, and who it is' } },
    async (): Promise<HealthView> => ({
      host: daemon.name,
      version: VERSION,
      build: daemon.build,
      pid: process.pid,
      instances: daemon.instances.all.length,
      storeTrouble: daemon.member.trouble,
    }),
  );
  server.get('/v1/cluster', { schema: { summary: 'Hosts and VMs, with their states and why' } }, async () => {
    await daemon.member.read();
    return clusterView(daemon.member.reading.content, storeName, daemon.member.trouble);
  });
  server.delete<{ Params: { host: string } }>(
    '/v1/hosts/:host',
    {
      schema: {
        summary: 'Forgets a host that is surely off, with all that it ran',
        params: { type: 'object', properties: { host: { type: 'string' } }, required: ['host'] },
      },
    },
    async (request, reply) => answer(reply, await daemon.member.removeHost(request.params.host)),
  );
  server.get('/v1/host', { schema: { summary: 'This host and its VM processes' } }, async () => {
    await daemon.member.read();
    const { content } = daemon.member.reading;
    const own = content.hosts.find(({ name }) => name === daemon.name);
    return {
      ...(own && hostView(content, own)),
      name: daemon.name,
      storeTrouble: daemon.member.trouble,
      processes: daemon.instances.all.map(({ view }) => view),
    };
  });
  server.put<{ Body: { on: boolean } }>(
    '/v1/host/maintenance',
    {
      schema: {
        summary: 'Empties this host, or opens it again',
        body: { type: 'object', properties: { on: { type: 'boolean' } }, required: ['on'] },
      },
    },
    async (request, reply) => answer(reply, await daemon.setMaintenance(request.body.on)),
  );
  server.get(
    '/v1/events',
    { schema: { summary: 'What happens on this host, as server-sent events' } },
    (_request, reply) => {
      stream(reply, 'text/event-stream', (write, ended) => {
        for (const event of daemon.log.recent) write(`data: ${JSON.stringify(event)}\n\n`);
        ended(daemon.log.follow((event) => write(`data: ${JSON.stringify(event)}\n\n`)));
      });
    },
  );
}

type VmRequest = { Params: { vm: string } };

function addVmRoutes(server: FastifyInstance, { daemon, verbs }: ApiOptions): void {
  const content = async () => {
    await daemon.member.read();
    return daemon.member.reading.content;
  };
  server.get('/v1/vms', { schema: { summary: 'All VMs of the cluster' } }, async () => {
    const found = await content();
    return found.vms.map((vm) => vmView(found, vm));
  });
  server.post(
    '/v1/vms',
    {
      schema: { summary: 'A new VM, from its file', body: fileSchema() },
      // Checked by the file's own rules, which name all mistakes at once.
      validatorCompiler: () => () => true,
    },
    async (request, reply) => answer(reply, await verbs.create(request.body as object)),
  );
  server.get<VmRequest>(
    '/v1/vms/:vm',
    { schema: { summary: 'One VM', params: vmParameters } },
    async (request, reply) => {
      const found = await content();
      const vm = found.vms.find(({ name }) => name === request.params.vm);
      if (vm === undefined) return reply.code(404).send({ error: noSuchVm(request.params.vm) });
      const file = daemon.member.reading.vms.get(vm.name)?.value.definition;
      return { ...vmView(found, vm), file };
    },
  );
  server.patch<VmRequest & { Body: Record<string, unknown> }>(
    '/v1/vms/:vm',
    { schema: { summary: "Changes fields of a VM's file", params: vmParameters, body: { type: 'object' } } },
    async (request, reply) => answer(reply, await verbs.set(request.params.vm, request.body)),
  );
  server.delete<VmRequest>(
    '/v1/vms/:vm',
    { schema: { summary: 'Forgets a VM that is off; its disks stay', params: vmParameters } },
    async (request, reply) => answer(reply, await verbs.destroy(request.params.vm)),
  );
  server.post<VmRequest & { Body: { host?: string } | null }>(
    '/v1/vms/:vm/start',
    { schema: { summary: 'Switches a VM on, there or wherever there is room', params: vmParameters } },
    async (request, reply) => answer(reply, await verbs.start(request.params.vm, request.body?.host)),
  );
  for (const verb of POWER_VERBS satisfies readonly PowerVerb[])
    server.post<VmRequest>(
      `/v1/vms/:vm/${verb}`,
      { schema: { summary: `Gives the guest the order ${verb}`, params: vmParameters } },
      async (request, reply) => answer(reply, await verbs.power(request.params.vm, verb)),
    );
  server.post<VmRequest & { Body: { host: string } }>(
    '/v1/vms/:vm/migrate',
    {
      schema: {
        summary: 'Moves the running guest to another host',
        params: vmParameters,
        body: { type: 'object', properties: { host: { type: 'string' } }, required: ['host'] },
      },
    },
    async (request, reply) => answer(reply, await verbs.migrate(request.params.vm, request.body.host)),
  );
  for (const verb of FT_VERBS satisfies readonly FtVerb[])
    server.post<VmRequest & { Body: { host?: string } | null }>(
      `/v1/vms/:vm/ft/${verb}`,
      { schema: { summary: `Fault tolerance: ${verb}`, params: vmParameters } },
      async (request, reply) =>
        answer(reply, await verbs.faultTolerance(request.params.vm, verb, request.body?.host)),
    );
  server.get<VmRequest>(
    '/v1/vms/:vm/stats',
    { schema: { summary: 'Figures of the primary: lag, log, outputs held', params: vmParameters } },
    async (request, reply) => {
      const detail = await verbs.detail(request.params.vm);
      return detail.ok ? (detail.value.figures ?? {}) : answer(reply, detail);
    },
  );
  server.post<VmRequest & { Body: { text: string; port?: number } }>(
    '/v1/vms/:vm/console',
    {
      schema: {
        summary: "Types on the guest's console",
        params: vmParameters,
        body: {
          type: 'object',
          properties: { text: { type: 'string' }, port: { enum: [0, 1] } },
          required: ['text'],
        },
      },
    },
    async (request, reply) =>
      answer(reply, await verbs.type(request.params.vm, request.body.port ?? 0, request.body.text)),
  );
  server.get<VmRequest>(
    '/v1/vms/:vm/console',
    {
      schema: {
        summary: "The guest's console as it is written, until its primary ends",
        params: vmParameters,
      },
    },
    async (request, reply) => {
      const detail = await verbs.detail(request.params.vm);
      if (!detail.ok) return answer(reply, detail);
      const { host, id } = detail.value.view;
      if (host === daemon.name) return followConsole(daemon, id, reply);
      const peer = daemon.peer(host);
      if (!peer.ok) return answer(reply, peer);
      const abort = new AbortController();
      stream(reply, 'text/plain; charset=utf-8', (write, ended) => {
        ended(() => abort.abort());
        void followApi(peer.value.address, `/v1/instances/${id}/console`, write, abort.signal).then(() =>
          reply.raw.end(),
        );
      });
      return reply;
    },
  );
}

type InstanceRequestOf<Body = unknown> = { Params: { id: string }; Body: Body };

const INSTANCE_REQUEST = {
  type: 'object',
  properties: { kind: { enum: ['primary', 'backup'] }, vm: { type: 'string' } },
  required: ['kind', 'vm'],
  if: { properties: { kind: { const: 'backup' } } },
  // The rest of `shared` is checked by the process that is started with it.
  // biome-ignore lint/suspicious/noThenProperty: a word of JSON Schema
  then: {
    required: ['shared'],
    properties: {
      shared: {
        type: 'object',
        properties: { processBytes: { type: 'integer', minimum: 1, maximum: PROCESS_BYTES_MAX } },
        required: ['processBytes'],
      },
    },
  },
};

/** What daemons ask of each other. */
function addInstanceRoutes(server: FastifyInstance, { daemon }: ApiOptions): void {
  const hide = true;
  server.post('/v1/instances', { schema: { hide, body: INSTANCE_REQUEST } }, async (request, reply) => {
    const started = await daemon.start(request.body as never);
    return started.ok ? started.value : answer(reply, started);
  });
  server.get<InstanceRequestOf>(
    '/v1/instances/:id',
    { schema: { hide, params: idParameters } },
    async (request, reply) => {
      const detail = await daemon.detail(request.params.id);
      return detail.ok ? detail.value : answer(reply, detail);
    },
  );
  server.post<InstanceRequestOf<object>>(
    '/v1/instances/:id/order',
    {
      schema: {
        hide,
        params: idParameters,
        body: { type: 'object', properties: { order: { enum: ORDERS } }, required: ['order'] },
      },
    },
    async (request, reply) => answer(reply, await daemon.order(request.params.id, request.body as object)),
  );
  server.post<InstanceRequestOf<{ signal: 'SIGKILL' | 'SIGTERM' }>>(
    '/v1/instances/:id/kill',
    {
      schema: {
        hide,
        params: idParameters,
        body: {
          type: 'object',
          properties: { signal: { enum: ['SIGKILL', 'SIGTERM'] } },
          required: ['signal'],
        },
      },
    },
    async (request, reply) => answer(reply, await daemon.kill(request.params.id, request.body.signal)),
  );
  server.get<InstanceRequestOf>(
    '/v1/instances/:id/console',
    { schema: { hide, params: idParameters } },
    (request, reply) => {
      followConsole(daemon, request.params.id, reply);
    },
  );
}

/** Success says nothing; what is not done says why, as 404 where the thing is missing and 409 otherwise. */
function answer(reply: FastifyReply, result: Result<unknown>): FastifyReply {
  if (result.ok) return reply.code(200).send({});
  const missing = /^there is no /.test(result.error);
  const mistaken = /mistakes?: /.test(result.error);
  return reply.code(missing ? 404 : mistaken ? 400 : 409).send({ error: result.error });
}

function stream(
  reply: FastifyReply,
  type: string,
  begin: (write: (text: string | Buffer) => void, ended: (then: () => void) => void) => void,
): void {
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' });
  reply.raw.flushHeaders();
  begin(
    (text) => {
      if (reply.raw.writableLength > UNREAD_BYTES_MAX) reply.raw.destroy();
      else reply.raw.write(text);
    },
    (then) => reply.raw.once('close', then),
  );
}

/** The console's file from its beginning, and on as it grows, while its process lives. */
function followConsole(daemon: HostDaemon, id: string, reply: FastifyReply): FastifyReply {
  const instance = daemon.instances.get(id);
  if (!instance) return answer(reply, failed(`the VM process ${id} is not on ${daemon.name} any more`));
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' });
  reply.raw.flushHeaders();
  void copyWhile(instance.folder.console, reply.raw, () => instance.running);
  return reply;
}

/** At the reader's pace. A file that is shorter than before has begun anew. */
async function copyWhile(path: string, to: ServerResponse, alive: () => boolean): Promise<void> {
  let at = 0;
  for (let more = true; more && !to.destroyed; ) {
    // What is written before the end is read after it.
    more = alive();
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    if (size < at) at = 0;
    try {
      for await (const chunk of createReadStream(path, { start: at })) {
        at += (chunk as Buffer).length;
        if (to.destroyed) return;
        if (!to.write(chunk)) await Promise.race([once(to, 'drain'), once(to, 'close')]);
      }
    } catch {
      // It is not there yet.
    }
    if (more) await new Promise((resolve) => setTimeout(resolve, CONSOLE_AGAIN_MS));
  }
  to.end();
}

function fileSchema(): object {
  const { $schema, ...schema } = z.toJSONSchema(VM_FILE, { io: 'input', unrepresentable: 'any' });
  return schema;
}
