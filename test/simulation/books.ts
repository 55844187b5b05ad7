/**
 * The simulation's own books: what must be so after the events of the journal, kept without the program's help, and
 * what can have caused the events to come.
 */

import type { EpochMs } from "../../src/core/base/time.ts";
import type { EndReason, Lease, Request } from "../../src/core/model/allocation.ts";
import type { Booking } from "../../src/core/model/booking.ts";
import type { MigIdentity } from "../../src/core/model/device.ts";
import type { AllocationId, GpuUuid } from "../../src/core/model/ids.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import type { Observation } from "../../src/core/model/reading.ts";
import type { NotificationStatus } from "../../src/ports/webhooks.ts";
import type { AdminWord } from "./ops.ts";
import { BLINDING, type Look, type Mood } from "./simulated-driver.ts";

export interface NoticeBook {
  readonly kind: "preempt" | "drain";
  readonly at: EpochMs;
  readonly until: EpochMs;
  /** `null` of a drain. */
  readonly for: AllocationId | null;
}

/** A live request. Replaced, never changed. */
export interface Followed {
  readonly request: Request;
  /** Its place among all submissions. */
  readonly order: number;
  readonly status: "queued" | "offered" | "leased";
  readonly lease: Lease | null;
  readonly claimBy: EpochMs | null;
  /** Flagged as such. */
  readonly idle: boolean;
  /** What it was told of its end; `null`: nothing. */
  readonly notice: NoticeBook | null;
  /** Leases are preempted for it. */
  readonly preempting: boolean;
  /** Since when its patience runs; `null`: it never did. */
  readonly headSince: EpochMs | null;
  /** The true time of its end, as it stood when the lease was given or prolonged; `null`: no end, or no lease. */
  readonly trueEndMs: number | null;
  /** By how much the daemon's clock was ahead of the true time then. */
  readonly leadMs: number;
  /** A daemon that stood still owes its client this time: to renew, and to claim. */
  readonly owedUntil: EpochMs;
  readonly claimOwedUntil: EpochMs;
}

/** One lease's part of a shared GPU. Replaced, never changed. */
export interface ShareBook {
  readonly mib: number;
  readonly since: EpochMs;
  /** `null`: an offer that nobody has claimed. */
  readonly startedAt: EpochMs | null;
  readonly settled: boolean;
  readonly over: boolean;
  readonly useSeen: boolean;
  readonly inUse: boolean;
  /** MiB in use at its grant. */
  readonly baselineMib: number;
}

/** Of a lease that has ended. */
export interface RemainsBook {
  readonly mib: number;
  readonly since: EpochMs;
}

/** Replaced, never changed. */
export interface GpuBook {
  readonly name: string;
  readonly totalMib: number;
  /** `null` of a whole GPU. */
  readonly mig: MigIdentity | null;
  readonly hold: "free" | "leased" | "shared" | "reclaiming" | "quarantined";
  readonly since: EpochMs;
  readonly useSeen: boolean;
  readonly inUse: boolean;
  readonly baselineMib: number;
  readonly cordoned: boolean;
  /** When its cordon ends leases; `null`: it does not. */
  readonly drainBy: EpochMs | null;
  readonly lost: boolean;
  /** The operator was told that somebody uses it without a lease. */
  readonly foreign: boolean;
  /** Of a shared one. */
  readonly shares: ReadonlyMap<AllocationId, ShareBook>;
  readonly remains: ReadonlyMap<AllocationId, RemainsBook>;
  readonly overdue: boolean;
}

/** Whether a lease is seen to use a GPU that it holds. */
export function isInUseBy(gpu: GpuBook | undefined, id: AllocationId): boolean {
  if (gpu?.hold === "shared") return gpu.shares.get(id)?.inUse ?? false;
  return gpu?.inUse ?? false;
}

function movedParts<Part extends { readonly since: EpochMs; readonly startedAt?: EpochMs | null }>(
  parts: ReadonlyMap<AllocationId, Part>,
  ms: number,
): ReadonlyMap<AllocationId, Part> {
  return new Map(
    [...parts].map(([id, part]) => {
      const startedAt = typeof part.startedAt === "number" ? { startedAt: part.startedAt + ms } : {};
      return [id, { ...part, since: part.since + ms, ...startedAt }];
    }),
  );
}

export class Books {
  readonly live: Map<AllocationId, Followed>;
  /** Until they are pruned. */
  readonly ended: Map<AllocationId, { readonly reason: EndReason; readonly at: EpochMs }>;
  readonly gpus: Map<GpuUuid, GpuBook>;
  /** Which request came under which idempotency key, and when. */
  readonly keys: Map<string, { readonly id: AllocationId; readonly at: EpochMs }>;
  /** Undelivered webhooks, by delivery. */
  readonly pending: Map<string, { readonly id: AllocationId | null; readonly status: NotificationStatus }>;
  /** When the clients of those who wait were last known to be alive. */
  readonly signs: Map<AllocationId, EpochMs>;
  highestToken = 0;
  submissions = 0;
  lastSeq = 0;
  bootId: string | null = null;
  /** Until they are cancelled, or forgotten as what is over. */
  readonly bookings: Map<string, Booking>;
  /** The host gets no new leases. */
  cordon: { readonly drainBy: EpochMs | null } | null = null;
  /** Undelivered webhooks that tell of an end which is not so any more. */
  readonly outdated = new Set<string>();

  constructor(from: Books | null = null) {
    this.live = new Map(from?.live);
    this.ended = new Map(from?.ended);
    this.gpus = new Map(from?.gpus);
    this.keys = new Map(from?.keys);
    this.pending = new Map(from?.pending);
    this.signs = new Map(from?.signs);
    this.bookings = new Map(from?.bookings);
    if (from === null) return;
    this.highestToken = from.highestToken;
    this.submissions = from.submissions;
    this.lastSeq = from.lastSeq;
    this.bootId = from.bootId;
    this.cordon = from.cordon;
  }

  /** What is booked at `at`, or is to be. */
  bookedAt(at: EpochMs): readonly Booking[] {
    return [...this.bookings.values()].filter(({ to }) => to > at);
  }

  /** With each change of the bookings those go that are over: a clock that is set back then does not bring them back. */
  forgetBooked(at: EpochMs): void {
    for (const [id, { to }] of this.bookings) if (to <= at) this.bookings.delete(id);
  }

  /** The daemon's clock has been set by `ms`: all that lives moves with it. */
  move(ms: number): void {
    for (const [id, it] of this.live) {
      const request = { ...it.request, submittedAt: it.request.submittedAt + ms };
      this.live.set(id, {
        ...it,
        request,
        lease: it.lease === null ? null : movedLease(it.lease, ms),
        claimBy: it.claimBy === null ? null : it.claimBy + ms,
        headSince: it.headSince === null ? null : it.headSince + ms,
        notice: it.notice === null ? null : { ...it.notice, at: it.notice.at + ms, until: it.notice.until + ms },
        leadMs: it.leadMs + ms,
        owedUntil: it.owedUntil + ms,
        claimOwedUntil: it.claimOwedUntil + ms,
      });
    }
    for (const [uuid, gpu] of this.gpus) {
      const drainBy = gpu.drainBy === null ? null : gpu.drainBy + ms;
      const [shares, remains] = [movedParts(gpu.shares, ms), movedParts(gpu.remains, ms)];
      this.gpus.set(uuid, { ...gpu, since: gpu.since + ms, drainBy, shares, remains });
    }
    const drainBy = this.cordon?.drainBy ?? null;
    if (drainBy !== null) this.cordon = { drainBy: drainBy + ms };
    for (const [key, { id, at }] of this.keys) this.keys.set(key, { id, at: at + ms });
    for (const [id, at] of this.signs) this.signs.set(id, at + ms);
  }
}

export function movedLease(lease: Lease, ms: number): Lease {
  const { grantedAt, expiresAt, nudge } = lease;
  const moved = { ...lease, grantedAt: grantedAt + ms, expiresAt: expiresAt === null ? null : expiresAt + ms };
  return nudge === undefined ? moved : { ...moved, nudge: { ...nudge, at: nudge.at + ms } };
}

/** What the daemon can know of its GPUs. */
export interface Sight {
  readonly moods: ReadonlyMap<GpuUuid, Mood>;
  readonly startedAt: EpochMs;
  readonly finishedAt: EpochMs;
  /** The latest probe failed in a way after which nothing earlier counts. */
  readonly blind: boolean;
}

export const NOTHING_SEEN: Sight = {
  moods: new Map(),
  startedAt: Number.NEGATIVE_INFINITY,
  finishedAt: Number.NEGATIVE_INFINITY,
  blind: false,
};

function sightAfter(before: Sight, { observation, moods }: Look): Sight {
  if (moods === null) {
    return { ...before, blind: !observation.ok && BLINDING.includes(observation.failure.kind) };
  }
  const { startedAt, finishedAt }: Observation = observation;
  return { moods, startedAt, finishedAt, blind: false };
}

/** Whoever asked for a release, and of what. */
export interface ReleaseAsked {
  readonly id: AllocationId | null;
  readonly service: string | null;
  readonly principal: string;
  readonly admin: boolean;
}

/**
 * What can have caused the events of the moment: whatever happened since the last time that all was settled. Where two
 * things happened at one instant, either may have come first.
 */
export class Causes {
  /** In force at some time of the moment. */
  readonly policies: Policy[];
  /** What could be known at some time of the moment; the last is what is known after it. */
  readonly sights: Sight[];
  readonly releases: ReleaseAsked[] = [];
  readonly revokes = new Set<AllocationId>();
  readonly renewals = new Set<AllocationId>();
  readonly processesGone = new Set<AllocationId>();
  readonly extensions = new Set<AllocationId>();
  readonly nudges = new Set<`${AllocationId} by ${string}`>();
  /** Their clients have shown that they know of their offers. */
  readonly claims = new Set<AllocationId>();
  readonly hangUps = new Set<AllocationId>();
  readonly adminWords = new Set<`${AdminWord | "drain"} ${GpuUuid}`>();
  readonly hostWords = new Set<"drain" | "undrain">();
  readonly adoptions = new Set<GpuUuid>();
  /** Whose bookings were asked for, with their ends; and ids of those to be given up. */
  readonly bookings = new Set<string>();
  /** What was said of deliveries. */
  readonly settled = new Map<string, string>();
  readonly redelivered = new Set<string>();
  /** How often the daemon began to serve, or stood still, without anything's telling of it yet. Outlasts the moment. */
  resumes = 0;
  /** By device, when a reading last showed it in this life of the daemon; and when its first reading began. */
  readonly #shownAt = new Map<GpuUuid, EpochMs>();
  #firstLookAt: EpochMs | null = null;

  constructor(policy: Policy, sight: Sight) {
    this.policies = [policy];
    this.sights = [sight];
  }

  get sight(): Sight {
    return this.sights[this.sights.length - 1] as Sight;
  }

  get policy(): Policy {
    return this.policies[this.policies.length - 1] as Policy;
  }

  look(look: Look): void {
    this.sights.push(sightAfter(this.sight, look));
    const { startedAt, finishedAt }: Observation = look.observation;
    if (look.moods === null) return;
    this.#firstLookAt ??= startedAt;
    for (const uuid of look.moods.keys()) this.#shownAt.set(uuid, finishedAt);
  }

  /** When a device was last shown; one that never was, at the earliest when the daemon began to look. */
  lastShownAt(uuid: GpuUuid): EpochMs {
    return this.#shownAt.get(uuid) ?? this.#firstLookAt ?? Infinity;
  }

  /** A daemon that has just been started has seen nothing. */
  forgetSight(): void {
    this.sights.push(NOTHING_SEEN);
    this.#shownAt.clear();
    this.#firstLookAt = null;
  }

  /** Everything is settled: the next moment begins. */
  clear(): void {
    this.policies.splice(0, this.policies.length - 1);
    this.sights.splice(0, this.sights.length - 1);
    this.clearAsked();
  }

  /** Nothing that was asked for has a right to come about. */
  clearAsked(): void {
    this.releases.length = 0;
    const asked = [
      this.revokes,
      this.renewals,
      this.processesGone,
      this.extensions,
      this.nudges,
      this.claims,
      this.hangUps,
      this.adminWords,
      this.adoptions,
      this.bookings,
      this.hostWords,
      this.redelivered,
    ];
    for (const set of asked) if (set.size > 0) set.clear();
    if (this.settled.size > 0) this.settled.clear();
  }
}
