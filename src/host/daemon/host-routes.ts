import type { FastifyInstance } from 'fastify';
import type { HealthView } from '../api.ts';
import { type ApiOptions, answer, stream } from './api-answer.ts';
import { clusterView, hostView } from './cluster-view.ts';
import { VERSION } from './version.ts';

/** This host and the cluster. */
export function addHostRoutes(server: FastifyInstance, { daemon, storeName }: ApiOptions): void {
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
