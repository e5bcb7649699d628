import { writeFile } from 'node:fs/promises';
import { cpus, hostname, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { isName } from '../../cluster/content.ts';
import type { ClusterStore } from '../../storage/cluster-store.ts';
import { DirectoryClusterStore } from '../../storage/directory-cluster-store.ts';
import { EtcdClusterStore } from '../../storage/etcd-cluster-store.ts';
import { formatHostPort, parseHostPort } from '../../transport/address.ts';
import type { ApiEvent } from '../api.ts';
import { serveOnSocket, serveOnTcp } from './api-server.ts';
import { EventLog } from './event-log.ts';
import { hostCertificate } from './host-certificate.ts';
import { HostDaemon } from './host-daemon.ts';
import { localFolder } from './local-hosts.ts';
import { makeFolder, StateFolder } from './state-folder.ts';
import { VmVerbs } from './vm-verbs.ts';

export interface HostOptions {
  readonly name: string | undefined;
  readonly state: string | undefined;
  /** `etcd:URL,URL` or a directory. */
  readonly cluster: string | undefined;
  /** host:port */
  readonly listen: string;
  readonly memoryBytes: number | undefined;
  readonly cores: number | undefined;
  readonly event: (event: ApiEvent) => void;
}

export interface RunningHost {
  readonly name: string;
  readonly socket: string;
  readonly api: string;
  readonly store: string;
  readonly state: string;
  /** The daemon ends; so many VM processes live on. */
  stop(): Promise<number>;
}

/** The host's own system and this daemon need some memory too. */
const MEMORY_SHARE = 0.8;

/** A host daemon with its store, its API on a socket and on TCP. */
export async function startHost(options: HostOptions): Promise<Result<RunningHost>> {
  const name = options.name ?? hostname();
  if (!isName(name)) return failed(`--name ${name} is letters, digits, ".", "_" and "-", at most 63`);
  const listen = parseHostPort(options.listen);
  if (!listen.ok) return failed(`--listen ${listen.error}`);
  const state = await StateFolder.open(options.state ?? join(localFolder(), 'hosts', name));
  if (!state.ok) return state;
  const lock = await state.value.lock();
  if (!lock.ok) return lock;
  const certificate = await hostCertificate(state.value, name);
  if (!certificate.ok) return certificate;
  const cluster = clusterStore(options.cluster ?? join(localFolder(), 'cluster'));
  if (!cluster.ok) return cluster;
  const log = new EventLog(name);
  log.follow(options.event);
  const daemon = await HostDaemon.start({
    name,
    state: state.value,
    store: cluster.value.store,
    log,
    memoryBytes: options.memoryBytes ?? Math.floor(totalmem() * MEMORY_SHARE),
    cores: options.cores ?? cpus().length,
    address: listen.value.host,
    certificate: certificate.value.certificate,
  });
  if (!daemon.ok) return daemon;
  const { value } = daemon;
  await writeFile(state.value.file('token'), value.member.token, { mode: 0o600 });
  const api = { daemon: value, verbs: new VmVerbs(value), storeName: cluster.value.name };
  const tcp = await serveOnTcp(api, listen.value, certificate.value, value.member.token);
  if (!tcp.ok) {
    await value.stop();
    return tcp;
  }
  const socket = await serveOnSocket(api, state.value.apiSocket);
  if (!socket.ok) {
    await value.stop();
    return socket;
  }
  const address = formatHostPort({ ...listen.value, port: tcp.value.port });
  value.announce(address);
  return ok({
    name,
    socket: state.value.apiSocket,
    api: address,
    store: cluster.value.name,
    state: state.value.path,
    stop: async () => {
      const left = value.instances.all.length;
      await value.stop();
      await Promise.all([tcp.value.server.close(), socket.value.close()]);
      lock.value.release();
      return left;
    },
  });
}

function clusterStore(text: string): Result<{ store: ClusterStore; name: string }> {
  if (!text.startsWith('etcd:')) {
    try {
      makeFolder(resolve(text));
    } catch (error) {
      return failed(`--cluster ${text} cannot be made: ${(error as Error).message}`);
    }
    return ok({ store: new DirectoryClusterStore({ path: text }), name: `directory ${text}` });
  }
  const endpoints = text.slice('etcd:'.length).split(',');
  const right = endpoints.every((url) => /^https?:\/\/[^/]+/.test(url));
  if (!right)
    return failed(`--cluster ${text} is wrong: write etcd:http://10.0.0.1:2379,http://10.0.0.2:2379`);
  return ok({ store: new EtcdClusterStore({ endpoints }), name: `etcd ${endpoints.join(', ')}` });
}
