import { createHash, timingSafeEqual } from 'node:crypto';
import { rm } from 'node:fs/promises';
import swagger from '@fastify/swagger';
import fastify, { type FastifyInstance } from 'fastify';
import { failed, ok, type Result } from '../../base/result.ts';
import type { HostPort } from '../../transport/address.ts';
import type { ApiOptions } from './api-answer.ts';
import type { HostCertificate } from './host-certificate.ts';
import { addHostRoutes } from './host-routes.ts';
import { addImageRoutes } from './image-routes.ts';
import { addInstanceRoutes } from './instance-routes.ts';
import { VERSION } from './version.ts';
import { addVmRoutes } from './vm-routes.ts';

const BODY_BYTES_MAX = 1024 * 1024;

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
    addImageRoutes(routes, options);
    addInstanceRoutes(routes, options);
  });
  server.get('/v1/openapi.json', { schema: { summary: 'This description' } }, async () => server.swagger());
}
