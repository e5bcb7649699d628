import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { FT_VERBS, type FtVerb, POWER_VERBS, type PowerVerb } from '../api.ts';
import { type ApiOptions, answer, stream } from './api-answer.ts';
import { followApi } from './api-client.ts';
import { followCapture, relayCapture } from './capture-stream.ts';
import { noSuchVm } from './cluster-member.ts';
import { vmView } from './cluster-view.ts';
import { followConsole } from './console-stream.ts';
import { NIC_QUERY } from './instance-routes.ts';
import { SnapshotVerbs } from './snapshot-verbs.ts';
import { VM_FILE } from './vm-file.ts';

const vmParameters = { type: 'object', properties: { vm: { type: 'string' } }, required: ['vm'] };

type VmRequest = { Params: { vm: string } };

/** VMs, on any host of the cluster. */
export function addVmRoutes(server: FastifyInstance, { daemon, verbs }: ApiOptions): void {
  const snapshots = new SnapshotVerbs(daemon, verbs);
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
  server.post<VmRequest & { Body: { folder: string } }>(
    '/v1/vms/:vm/snapshot',
    {
      schema: {
        summary: 'The guest at one instant, memory and disks, in a new folder of the host that runs it',
        params: vmParameters,
        body: { type: 'object', properties: { folder: { type: 'string' } }, required: ['folder'] },
      },
    },
    async (request, reply) => {
      const taken = await snapshots.snapshot(request.params.vm, request.body.folder);
      return taken.ok ? taken.value : answer(reply, taken);
    },
  );
  server.post<VmRequest & { Body: { folder: string; alone?: boolean; disks?: string } }>(
    '/v1/vms/:vm/restore',
    {
      schema: {
        summary: 'A new VM of this name that goes on from a snapshot on this host',
        params: vmParameters,
        body: {
          type: 'object',
          properties: { folder: { type: 'string' }, alone: { type: 'boolean' }, disks: { type: 'string' } },
          required: ['folder'],
        },
      },
    },
    async (request, reply) => {
      const { folder, ...options } = request.body;
      return answer(reply, await snapshots.restore(folder, request.params.vm, options));
    },
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
  server.get<VmRequest & { Querystring: { nic: number } }>(
    '/v1/vms/:vm/capture',
    {
      schema: {
        summary: 'Packets of one interface as they pass, in the format of tcpdump, until its primary ends',
        params: vmParameters,
        querystring: NIC_QUERY,
      },
    },
    async (request, reply) => {
      const detail = await verbs.detail(request.params.vm);
      if (!detail.ok) return answer(reply, detail);
      const { host, id } = detail.value.view;
      const { nic } = request.query;
      if (host === daemon.name) return followCapture(daemon, id, nic, reply);
      const peer = daemon.peer(host);
      if (!peer.ok) return answer(reply, peer);
      return relayCapture(peer.value.address, `/v1/instances/${id}/capture?nic=${nic}`, reply);
    },
  );
}

function fileSchema(): object {
  const { $schema, ...schema } = z.toJSONSchema(VM_FILE, { io: 'input', unrepresentable: 'any' });
  return schema;
}
