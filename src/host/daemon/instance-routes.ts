import type { FastifyInstance } from 'fastify';
import { type ApiOptions, answer } from './api-answer.ts';
import { followCapture } from './capture-stream.ts';
import { followConsole } from './console-stream.ts';

const PROCESS_BYTES_MAX = 2 ** 40;
/** What daemons and users order; `save` would write any file of this account, `snapshot` makes a new folder only. */
const ORDERS = [
  ...['power-button', 'power-off', 'reset', 'pause', 'resume', 'limit', 'connect', 'disconnect', 'console'],
  ...['protect', 'unprotect', 'candidate', 'migrate-backup', 'switch-over', 'move', 'snapshot'],
];
const idParameters = { type: 'object', properties: { id: { type: 'string' } }, required: ['id'] };

/** Which interface of a guest. */
export const NIC_QUERY = {
  type: 'object',
  properties: { nic: { type: 'integer', minimum: 0, maximum: 255, default: 0 } },
};

type InstanceRequestOf<Body = unknown> = { Params: { id: string }; Body: Body };

const INSTANCE_REQUEST = {
  type: 'object',
  properties: {
    kind: { enum: ['primary', 'backup'] },
    vm: { type: 'string' },
    snapshot: { type: 'string' },
  },
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
export function addInstanceRoutes(server: FastifyInstance, { daemon }: ApiOptions): void {
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
  server.get<InstanceRequestOf & { Querystring: { nic: number } }>(
    '/v1/instances/:id/capture',
    { schema: { hide, params: idParameters, querystring: NIC_QUERY } },
    (request, reply) => {
      followCapture(daemon, request.params.id, request.query.nic, reply);
    },
  );
  server.get<InstanceRequestOf>(
    '/v1/instances/:id/console',
    { schema: { hide, params: idParameters } },
    (request, reply) => {
      followConsole(daemon, request.params.id, reply);
    },
  );
}
