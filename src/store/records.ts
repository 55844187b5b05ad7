/**
 * How the values of core/model/ stand in the database.
 *
 * Every field is written out by name: `satisfies` makes a field that is added to the model and forgotten here a
 * compile error, and a stray property never reaches the file.
 */

import type { EpochMs } from "../core/base/time.ts";
import type { Event } from "../core/host/events.ts";
import type {
  Adoption,
  Allocation,
  BoundProcess,
  EndedAllocation,
  EndReason,
  Lease,
  LeasedGpu,
  Notice,
  Nudge,
  Outcome,
  Request,
} from "../core/model/allocation.ts";
import type { Booking } from "../core/model/booking.ts";
import type { MigIdentity } from "../core/model/device.ts";
import type { Cordon, Gpu, GpuHold, Remains, Share } from "../core/model/gpu.ts";
import type { AllocationId, GpuUuid } from "../core/model/ids.ts";
import type { GpuUse, UsedGpu } from "../core/model/use.ts";
import { NO_USE, wasUsed } from "../core/model/use.ts";
import type { Requirement } from "../core/model/workload.ts";
import type { EndedLease, StoredState } from "../ports/store.ts";

export const ALLOCATION_COLUMNS =
  "status, claim_by, idle_since, preempting_since, head_since, notice, ended_at, end_reason, end_detail, used, lease, request";

export interface AllocationRow {
  readonly status: Allocation["status"];
  readonly claim_by: number | null;
  readonly idle_since: number | null;
  readonly preempting_since: number | null;
  readonly head_since: number | null;
  readonly notice: string | null;
  readonly ended_at: number | null;
  readonly end_reason: string | null;
  readonly end_detail: string | null;
  readonly used: string | null;
  readonly lease: string | null;
  readonly request: string;
}

function encodeRequest(request: Request): string {
  const requirement: Requirement = request.requirement;
  return JSON.stringify({
    id: request.id,
    serviceName: request.serviceName,
    principal: request.principal,
    workloadType: request.workloadType,
    workloadData: request.workloadData,
    webhookUrl: request.webhookUrl,
    requirement: {
      gpus: requirement.gpus,
      memoryMib: requirement.memoryMib,
      priority: requirement.priority,
      maxUtilizationPercent: requirement.maxUtilizationPercent,
      maxUtilizationExplicit: requirement.maxUtilizationExplicit,
    },
    preferredGpus: request.preferredGpus,
    ...(request.exactGpus === undefined ? {} : { exactGpus: request.exactGpus }),
    gpuModel: request.gpuModel,
    ttlMs: request.ttlMs,
    maxDurationMs: request.maxDurationMs,
    preemptible: request.preemptible,
    queueTimeoutMs: request.queueTimeoutMs,
    migProfile: request.migProfile,
    sharing: request.sharing,
    fairShareDelayMs: request.fairShareDelayMs,
    ...(request.adoption === undefined ? {} : { adoption: adoption(request.adoption) }),
    ...(request.boundTo === undefined ? {} : { boundTo: boundProcess(request.boundTo) }),
    submittedAt: request.submittedAt,
  } satisfies Request);
}

function boundProcess({ pid, startTicks }: BoundProcess): BoundProcess {
  return { pid, startTicks };
}

function adoption({ by, reason }: Adoption): Adoption {
  return { by, reason };
}

function encodeLease(lease: Lease): string {
  return JSON.stringify({
    gpus: lease.gpus.map(leasedGpu),
    fencingToken: lease.fencingToken,
    grantedAt: lease.grantedAt,
    expiresAt: lease.expiresAt,
    sharedMib: lease.sharedMib,
    ...(lease.nudge === undefined ? {} : { nudge: nudgeOf(lease.nudge) }),
  } satisfies Lease);
}

function nudgeOf({ at, by, message }: Nudge): Nudge {
  return { at, by, message };
}

function leasedGpu(gpu: LeasedGpu): LeasedGpu {
  return {
    uuid: gpu.uuid,
    index: gpu.index,
    name: gpu.name,
    pciBusId: gpu.pciBusId,
    memoryTotalMib: gpu.memoryTotalMib,
    mig: migIdentity(gpu.mig),
    baselineMib: gpu.baselineMib,
    numaNodes: gpu.numaNodes,
    cpuAffinity: gpu.cpuAffinity,
  };
}

function migIdentity(mig: MigIdentity | null): MigIdentity | null {
  if (mig === null) return null;
  const { parentUuid, profile, gpuInstanceId, computeInstanceId } = mig;
  return { parentUuid, profile, gpuInstanceId, computeInstanceId };
}

/** @param byLeases leaves the hold to the live leases: see {@link holdByLeases}. */
export function encodeGpu(gpu: Gpu, byLeases: boolean): string {
  return JSON.stringify({
    uuid: gpu.uuid,
    index: gpu.index,
    name: gpu.name,
    pciBusId: gpu.pciBusId,
    memoryTotalMib: gpu.memoryTotalMib,
    mig: migIdentity(gpu.mig),
    hold: byLeases ? null : gpuHold(gpu.hold),
    cordon: gpu.cordon,
    fault: gpu.fault,
    answeredUpTo: gpu.answeredUpTo,
    lostSince: gpu.lostSince,
    foreignSince: gpu.foreignSince,
  } satisfies { [field in keyof Gpu]: Gpu[field] | null });
}

function gpuHold(hold: GpuHold): GpuHold {
  switch (hold.kind) {
    case "free":
      return { kind: "free" };
    case "leased":
      return { kind: "leased", allocationId: hold.allocationId, since: hold.since, use: gpuUse(hold.use) };
    case "shared":
      return {
        kind: "shared",
        since: hold.since,
        baselineMib: hold.baselineMib,
        shares: hold.shares.map(share),
        remains: hold.remains.map(remains),
        overdueSince: hold.overdueSince,
      };
    case "reclaiming":
      return {
        kind: "reclaiming",
        allocationId: hold.allocationId,
        since: hold.since,
        baselineMib: hold.baselineMib,
      };
    case "quarantined":
      return {
        kind: "quarantined",
        cause: hold.cause,
        since: hold.since,
        baselineMib: hold.baselineMib,
        reason: hold.reason,
      };
    default:
      return hold satisfies never;
  }
}

function share(one: Share): Share {
  return {
    allocationId: one.allocationId,
    since: one.since,
    memoryMib: one.memoryMib,
    startedAt: one.startedAt,
    settledAt: one.settledAt,
    overSince: one.overSince,
    use: gpuUse(one.use),
  };
}

function remains(one: Remains): Remains {
  return {
    allocationId: one.allocationId,
    since: one.since,
    memoryMib: one.memoryMib,
    pid: one.pid,
    submittedAt: one.submittedAt,
  };
}

function gpuUse(use: GpuUse): GpuUse {
  return { spans: use.spans, since: use.since };
}

/** @returns `null` when nothing was used, as most short leases leave it. */
export function encodeUsed(used: readonly UsedGpu[]): string | null {
  return used.length === 0 ? null : JSON.stringify(used.map(({ uuid, spans }): UsedGpu => ({ uuid, spans })));
}

function decodeUsed(text: string | null): readonly UsedGpu[] {
  return text === null ? [] : (JSON.parse(text) as UsedGpu[]);
}

/** @returns `null` when nothing was said, as of most leases. */
export function encodeNotice(notice: Notice | null): string | null {
  if (notice === null) return null;
  const { at, until } = notice;
  return notice.kind === "preempt"
    ? JSON.stringify({ kind: "preempt", at, until, for: notice.for } satisfies Notice)
    : JSON.stringify({ kind: "drain", at, until, reason: notice.reason } satisfies Notice);
}

function decodeNotice(text: string | null): Notice | null {
  return text === null ? null : (JSON.parse(text) as Notice);
}

export function encodeCordon(cordon: Cordon | null): string | null {
  if (cordon === null) return null;
  const { at, by, reason, drainBy } = cordon;
  return JSON.stringify({ at, by, reason, drainBy } satisfies Cordon);
}

export function encodeBookings(bookings: readonly Booking[]): string {
  return JSON.stringify(
    bookings.map(
      ({ id, principal, serviceName, gpus, from, to, madeAt, madeBy }): Booking => ({
        id,
        principal,
        serviceName,
        gpus,
        from,
        to,
        madeAt,
        madeBy,
      }),
    ),
  );
}

export function decodeBookings(text: string): readonly Booking[] {
  return JSON.parse(text) as readonly Booking[];
}

export function decodeCordon(text: string | null): Cordon | null {
  return text === null ? null : (JSON.parse(text) as Cordon);
}

/** The live lease that holds a GPU alone. */
export interface Holder {
  readonly allocationId: AllocationId;
  readonly grantedAt: EpochMs;
}

export function decodeGpu(body: string, holders: ReadonlyMap<GpuUuid, Holder>): Gpu {
  const gpu = JSON.parse(body) as Omit<Gpu, "hold"> & { readonly hold: StoredHold | null };
  // A file of an older version says nothing of the later fields.
  return {
    ...gpu,
    mig: gpu.mig ?? null,
    hold: withCause(gpu.hold ?? holdByLeases(holders.get(gpu.uuid))),
    fault: gpu.fault ?? null,
    answeredUpTo: gpu.answeredUpTo ?? 0,
    lostSince: gpu.lostSince ?? null,
    foreignSince: gpu.foreignSince ?? null,
  };
}

/** As the database has it: older rows have no cause of a quarantine. */
type StoredHold = Exclude<GpuHold, QuarantinedHold> | (Omit<QuarantinedHold, "cause"> & Partial<QuarantinedHold>);
type QuarantinedHold = Extract<GpuHold, { kind: "quarantined" }>;

/** Of rows that were written before a quarantine had a cause. */
const OLD_OVERDUE = "memory or processes of an ended lease did not go in time";

/** The hold with its cause, which older rows tell by their sentence alone. */
function withCause(hold: StoredHold): GpuHold {
  if (hold.kind !== "quarantined") return hold;
  return { ...hold, cause: hold.cause ?? (hold.reason === OLD_OVERDUE ? "overdue" : "ghost") };
}

/** What a GPU's hold is when nothing but leases has ever happened to it. */
function holdByLeases(holder: Holder | undefined): GpuHold {
  if (holder === undefined) return { kind: "free" };
  return { kind: "leased", allocationId: holder.allocationId, since: holder.grantedAt, use: NO_USE };
}

/** Whether {@link decodeGpu} would find `hold` by itself. */
export function isHoldByLeases(hold: GpuHold, holder: Holder | undefined): boolean {
  if (hold.kind === "free") return holder === undefined;
  if (hold.kind !== "leased" || holder === undefined) return false;
  return hold.allocationId === holder.allocationId && hold.since === holder.grantedAt && !wasUsed(hold.use);
}

/** The allocation that `row` holds. `seenAt` is not durable and comes back as 0. */
export function decodeAllocation(row: AllocationRow): Allocation {
  const request = JSON.parse(row.request) as Request;
  const lease = row.lease === null ? null : (JSON.parse(row.lease) as Lease);
  switch (row.status) {
    case "queued":
      return {
        status: "queued",
        request,
        preemptingSince: row.preempting_since,
        headSince: row.head_since,
        seenAt: 0,
      };
    case "offered": {
      const [claimBy, notice] = [present(row.claim_by), decodeNotice(row.notice)];
      return { status: "offered", request, lease: present(lease), claimBy, notice };
    }
    case "leased": {
      const notice = decodeNotice(row.notice);
      return { status: "leased", request, lease: present(lease), idleSince: row.idle_since, notice };
    }
    case "ended":
      return endedAllocation(row, request, lease);
    default:
      return row.status satisfies never;
  }
}

function endedAllocation(row: AllocationRow, request: Request, lease: Lease | null): EndedAllocation {
  const reason = present(row.end_reason) as EndReason;
  const outcome: Outcome = { reason, at: present(row.ended_at), detail: row.end_detail };
  return { status: "ended", request, lease, used: decodeUsed(row.used), outcome };
}

export interface EndedLeaseRow {
  readonly rowid: number;
  readonly id: string;
  readonly service: string;
  readonly principal: string;
  readonly submitted_at: number;
  readonly ended_at: number;
  readonly used: string | null;
  readonly lease: string;
}

export function decodeEndedLease(row: EndedLeaseRow): EndedLease {
  const lease = JSON.parse(row.lease) as Lease;
  return {
    id: row.id,
    serviceName: row.service,
    principal: row.principal,
    gpus: lease.gpus.map(({ uuid, memoryTotalMib }) => ({ uuid, memoryTotalMib })),
    sharedMib: lease.sharedMib,
    used: decodeUsed(row.used),
    fencingToken: lease.fencingToken,
    grantedAt: lease.grantedAt,
    endedAt: row.ended_at,
  };
}

/** For columns that the table's CHECK keeps filled in this status. */
function present<T>(value: T | null): T {
  if (value === null) throw new Error("an allocation's row lacks what its status needs");
  return value;
}

/** What a snapshot holds. */
export function decodeState(text: string): StoredState {
  const state = JSON.parse(text) as StoredState;
  const allocations = state.allocations.map((allocation) =>
    allocation.status === "queued" ? { ...allocation, headSince: allocation.headSince ?? null } : allocation,
  );
  // Snapshots from before there were bookings have none.
  const bookings = (state as Partial<StoredState>).bookings ?? [];
  return { ...state, bookings, allocations, gpus: state.gpus.map((gpu) => ({ ...gpu, hold: withCause(gpu.hold) })) };
}

/**
 * JSON text of the requests and leases of one turn, each made once: a request stands in its `submitted` event and
 * in its row, a lease in its `granted` event and in its row.
 */
export class TurnTexts {
  readonly #texts = new Map<object, string>();

  request(request: Request): string {
    return this.#once(request, encodeRequest);
  }

  lease(lease: Lease): string {
    return this.#once(lease, encodeLease);
  }

  events(events: readonly Event[]): string {
    return `[${events.map((event) => this.#event(event)).join(",")}]`;
  }

  #event(event: Event): string {
    switch (event.type) {
      case "submitted":
        return `{"type":"submitted","request":${this.request(event.request)}}`;
      case "granted":
        return `{"type":"granted","id":${JSON.stringify(event.id)},"lease":${this.lease(event.lease)},"claimBy":${event.claimBy}}`;
      default:
        return JSON.stringify(event);
    }
  }

  #once<T extends object>(value: T, encode: (value: T) => string): string {
    let text = this.#texts.get(value);
    if (text === undefined) {
      text = encode(value);
      this.#texts.set(value, text);
    }
    return text;
  }
}

export function decodeEvents(text: string): readonly Event[] {
  return JSON.parse(text) as Event[];
}
