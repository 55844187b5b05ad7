/** A cluster as the controller's ground: its objects, its pods, and who of several controllers leads. */
import { performance } from "node:perf_hooks";
import type { Logger } from "../../platform/logger.ts";
import type { ControllerSettings } from "../settings/settings.ts";
import { KubeBackend } from "./backend.ts";
import { IDENTITY, KubeConnection } from "./connection.ts";
import { LeaderElection } from "./leader.ts";
import { KubeObjects } from "./objects.ts";
import { tellOfOldServer } from "./server-version.ts";

/** As other controllers: an apiserver has more than one to serve. */
const PACE = { perSecond: 20, burst: 100 } as const;

export class Cluster {
  readonly objects: KubeObjects;
  readonly backend: KubeBackend;
  readonly #connection: KubeConnection;
  readonly #election: LeaderElection | null;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #leading: Promise<void> = Promise.resolve();
  #versionTold: Promise<void> = Promise.resolve();
  #leads: boolean;
  #leaseTrouble: string | null = null;

  /** @param changed is run after each change that a watch has seen. */
  constructor(settings: ControllerSettings, changed: () => void, log: Logger) {
    const { lease, namespace, gateway, prometheus, pods } = settings.kubernetes;
    this.#connection = new KubeConnection(settings.kubernetes, PACE);
    this.objects = new KubeObjects(this.#connection, settings.kubernetes.watched);
    const { reconcile } = settings;
    const how = { reconcile, namespace, gateway, prometheus, pods };
    this.backend = new KubeBackend(this.#connection, this.objects, how, changed);
    this.#log = log;
    this.#leads = lease === null;
    const monotonicMs = () => performance.now();
    const failed = (error: Error) => this.#leaseFailed(error);
    const options = { identity: IDENTITY, monotonicMs, failed };
    this.#election = lease === null ? null : new LeaderElection(this.#connection, { ...lease, ...options });
  }

  get leads(): boolean {
    return this.#leads && (this.#election?.isHeld ?? true);
  }

  /** @param lost is run when this one led, and does so no longer: it must end. */
  start(lost: () => void): void {
    this.objects.start();
    this.backend.start();
    this.#versionTold = tellOfOldServer(this.#connection, this.#log, this.#stop.signal);
    if (this.#election !== null) this.#leading = this.#lead(this.#election, lost);
  }

  #leaseFailed({ message }: Error): void {
    if (message !== this.#leaseTrouble) this.#log.warn({ trouble: message }, "the Lease cannot be taken or renewed");
    this.#leaseTrouble = message;
  }

  async #lead(election: LeaderElection, lost: () => void): Promise<void> {
    const { signal } = this.#stop;
    await election.acquire(signal);
    if (signal.aborted) return;
    this.#leads = true;
    this.#log.info({}, "this controller leads");
    await election.hold(signal);
    this.#leads = false;
    if (!signal.aborted) lost();
    else await election.release().catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([this.#leading, this.#versionTold]);
    await Promise.all([this.objects.stop(), this.backend.stop()]);
    await this.#connection.close();
  }
}
