import { failed, ok, type Result } from '../../base/result.ts';
import type { Host } from '../../cluster/content.ts';
import { parseHostPort } from '../../transport/address.ts';
import type { ImageView, InstanceView } from '../api.ts';
import { type ApiAddress, callApi } from './api-client.ts';
import type { SharedConfig } from './launch.ts';
import type { ReportLine } from './vm-instance.ts';

/** What a host is asked to start. */
export type InstanceRequest =
  /** `snapshot`: a folder of that host whose guest goes on, instead of one that boots. */
  | { readonly kind: 'primary'; readonly vm: string; readonly snapshot?: string }
  | { readonly kind: 'backup'; readonly vm: string; readonly shared: SharedConfig };

export interface InstanceDetail {
  readonly view: InstanceView;
  readonly figures: ReportLine | undefined;
  /** How the last snapshots that were ordered of it have ended, the newest last. */
  readonly snapshots?: readonly ReportLine[] | undefined;
  /** What its partner must have alike. */
  readonly shared: SharedConfig;
}

/** What can be done with the VM processes of one host. */
export interface HostOperations {
  start(request: InstanceRequest): Promise<Result<InstanceView>>;
  order(id: string, order: object): Promise<Result<void>>;
  kill(id: string, signal: 'SIGKILL' | 'SIGTERM'): Promise<Result<void>>;
  detail(id: string): Promise<Result<InstanceDetail>>;
}

/** Starting reads disks' sizes and a kernel; everything else is quick. */
const START_MS_MAX = 90_000;
const CALL_MS_MAX = 10_000;

/** Another host's daemon, over its API. */
export class Peer implements HostOperations {
  readonly #address: ApiAddress;

  private constructor(address: ApiAddress) {
    this.#address = address;
  }

  static of(name: string, host: Host | undefined, token: string): Result<Peer> {
    if (host === undefined)
      return failed(`there is no host "${name}" in the cluster: lockstep cluster status lists them`);
    if (host.presence === undefined) return failed(`host ${name} gives no sign of life`);
    const at = parseHostPort(host.presence.api);
    if (!at.ok) return failed(`host ${name} tells no address of its API: start it with --listen`);
    return ok(new Peer({ ...at.value, token, certificate: host.presence.certificate }));
  }

  get address(): ApiAddress {
    return this.#address;
  }

  images(): Promise<Result<readonly ImageView[]>> {
    return callApi(this.#address, 'GET', '/v1/images', undefined, CALL_MS_MAX);
  }

  start(request: InstanceRequest): Promise<Result<InstanceView>> {
    return callApi(this.#address, 'POST', '/v1/instances', request, START_MS_MAX);
  }

  order(id: string, order: object): Promise<Result<void>> {
    return callApi(this.#address, 'POST', `/v1/instances/${id}/order`, order, CALL_MS_MAX);
  }

  kill(id: string, signal: 'SIGKILL' | 'SIGTERM'): Promise<Result<void>> {
    return callApi(this.#address, 'POST', `/v1/instances/${id}/kill`, { signal }, CALL_MS_MAX);
  }

  detail(id: string): Promise<Result<InstanceDetail>> {
    return callApi(this.#address, 'GET', `/v1/instances/${id}`, undefined, CALL_MS_MAX);
  }
}
