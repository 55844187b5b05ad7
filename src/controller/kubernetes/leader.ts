/**
 * One of several controllers leads: it holds a Lease, and renews it. Whether another one's has run out is told by our own
 * clock, from when we saw it change, never by the times in it: clocks of two hosts differ.
 *
 * Who has not renewed for {@link RENEW_MS} leads no more, before {@link LEASE_S} is over and another one may begin.
 */
import { type KubeConnection, KubeError } from "./connection.ts";
import { sleep } from "./watch.ts";

const LEASE_S = 15;
const RENEW_MS = 10_000;
const RETRY_MS = 2_000;
/** Of several that wait not all ask at once. */
const JITTER = 0.2;

interface Lease {
  readonly metadata: { readonly resourceVersion: string };
  readonly spec: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly renewTime?: string;
    readonly acquireTime?: string;
    readonly leaseTransitions?: number;
  };
}

export interface LeaderOptions {
  readonly namespace: string;
  readonly name: string;
  readonly identity: string;
  /** Steady: it does not go back when the wall clock is set. */
  readonly monotonicMs: () => number;
  /** An attempt has failed; another one follows. */
  readonly failed: (error: Error) => void;
}

export class LeaderElection {
  readonly #connection: KubeConnection;
  readonly #options: LeaderOptions;
  /** The lease of another as we saw it, and since when it is unchanged. */
  #seen: { readonly version: string; readonly at: number; readonly lastsMs: number } | null = null;
  /** As this one wrote it last: it is renewed in one call, and read first only where somebody else has written. */
  #own: Lease | null = null;
  /** When the last attempt that succeeded began, by our own clock. */
  #renewedAt = Number.NEGATIVE_INFINITY;
  #triedAt = Number.NEGATIVE_INFINITY;

  constructor(connection: KubeConnection, options: LeaderOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** Told by the clock, and not by what has run since: a process that was stopped for a while must not go on as leader. */
  get isHeld(): boolean {
    return this.#options.monotonicMs() - this.#renewedAt < RENEW_MS;
  }

  /** Waits until this one leads. */
  async acquire(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const startedAt = this.#options.monotonicMs();
      try {
        if (await this.#try(signal)) {
          this.#renewedAt = startedAt;
          return;
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#options.failed(error as Error);
      }
      // Never beyond the end of the lease that is waited for: it is taken then, not with the next question.
      await sleep(Math.min(RETRY_MS * (1 - Math.random() * JITTER), this.#otherLastsMs()), signal);
    }
  }

  /** Renews until that has failed for too long, or somebody else leads. Resolves then, or when `signal` ends it. */
  async hold(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // From the beginning of the last one on: one that took long is not followed by a pause as well.
      await sleep(Math.max(0, RETRY_MS - (this.#options.monotonicMs() - this.#triedAt)), signal);
      if (signal.aborted) return;
      const left = RENEW_MS - (this.#options.monotonicMs() - this.#renewedAt);
      if (left <= 0) return;
      const startedAt = this.#options.monotonicMs();
      try {
        // A call that hangs must not outlast the lease.
        if (!(await this.#try(AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(left))])))) return;
        this.#renewedAt = startedAt;
      } catch (error) {
        // Tried again until the time is over.
        if (!signal.aborted) this.#options.failed(error as Error);
      }
    }
  }

  /** Gives the lease back, so that the next one need not wait for its end. */
  async release(): Promise<void> {
    const lease = await this.#read(AbortSignal.timeout(RETRY_MS));
    if (lease?.spec.holderIdentity !== this.#options.identity) return;
    await this.#write(
      lease,
      { ...lease.spec, holderIdentity: "", leaseDurationSeconds: 1 },
      AbortSignal.timeout(RETRY_MS),
    );
    // As it was left it has nobody's name.
    this.#own = null;
  }

  async #try(signal: AbortSignal): Promise<boolean> {
    const { identity, monotonicMs } = this.#options;
    this.#triedAt = monotonicMs();
    if (this.#own !== null && (await this.#renewed(this.#own, signal))) return true;
    const lease = await this.#read(signal);
    const now = microTime(Date.now());
    const mine = { holderIdentity: identity, leaseDurationSeconds: LEASE_S, renewTime: now };
    if (lease === null) {
      return this.#create({ ...mine, acquireTime: now, leaseTransitions: 0 }, signal);
    }
    const { holderIdentity = "", leaseTransitions = 0, acquireTime } = lease.spec;
    if (holderIdentity === identity) {
      return this.#write(lease, { ...mine, acquireTime: acquireTime ?? now, leaseTransitions }, signal);
    }
    if (holderIdentity !== "") {
      if (this.#seen?.version !== lease.metadata.resourceVersion) {
        const lastsMs = (lease.spec.leaseDurationSeconds ?? LEASE_S) * 1_000;
        this.#seen = { version: lease.metadata.resourceVersion, at: monotonicMs(), lastsMs };
      }
      if (monotonicMs() - this.#seen.at < this.#seen.lastsMs) return false;
    }
    return this.#write(lease, { ...mine, acquireTime: now, leaseTransitions: leaseTransitions + 1 }, signal);
  }

  /** Until the lease of another has run out; without one that is seen, for ever. */
  #otherLastsMs(): number {
    if (this.#seen === null) return Number.POSITIVE_INFINITY;
    const leftMs = this.#seen.at + this.#seen.lastsMs - this.#options.monotonicMs();
    return leftMs <= 0 ? Number.POSITIVE_INFINITY : Math.ceil(leftMs);
  }

  /** @returns false where it is not as it was left, and has to be read. */
  #renewed(own: Lease, signal: AbortSignal): Promise<boolean> {
    this.#own = null;
    return this.#write(own, { ...own.spec, renewTime: microTime(Date.now()) }, signal);
  }

  get #path(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${this.#options.namespace}/leases`;
  }

  async #read(signal: AbortSignal): Promise<Lease | null> {
    try {
      return await this.#connection.call<Lease>(`${this.#path}/${this.#options.name}`, { signal });
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return null;
      throw error;
    }
  }

  #create(spec: Lease["spec"], signal: AbortSignal): Promise<boolean> {
    const { name, namespace } = this.#options;
    const body = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name, namespace }, spec };
    return this.#won(this.#connection.call<Lease>(this.#path, { method: "POST", body, signal }));
  }

  /** Fails where somebody else has written meanwhile: the version tells. */
  #write({ metadata }: Lease, spec: Lease["spec"], signal: AbortSignal): Promise<boolean> {
    const { name, namespace } = this.#options;
    const { resourceVersion } = metadata;
    const body = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name, namespace, resourceVersion },
      spec,
    };
    return this.#won(this.#connection.call<Lease>(`${this.#path}/${name}`, { method: "PUT", body, signal }));
  }

  async #won(call: Promise<Lease>): Promise<boolean> {
    try {
      this.#own = await call;
      return true;
    } catch (error) {
      if (error instanceof KubeError && error.status === 409) return false;
      throw error;
    }
  }
}

/** As Kubernetes writes it: exactly six digits of a second. */
export function microTime(ms: number): string {
  return new Date(ms).toISOString().replace("Z", "000Z");
}
