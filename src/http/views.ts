/** The host and its allocations as the API shows them: pure functions over a state. */
import { type Closeness, localityOf } from "../core/allocator/closeness.ts";
import { neverFits } from "../core/allocator/place.ts";
import { shareableMib } from "../core/allocator/sharing.ts";
import { ailing, blockOf, isolationOf, strainOf } from "../core/allocator/survey.ts";
import { meaningOf } from "../core/allocator/xid.ts";
import type { AllocateAsk } from "../core/commands.ts";
import { isDrained } from "../core/drain.ts";
import { type Explanation, explain, explainer } from "../core/explain.ts";
import { holdersOf, reservedMib, type SharedHold } from "../core/holds.ts";
import { boardOf } from "../core/mig.ts";
import type {
  Actor,
  Allocation,
  Cordon,
  EpochMs,
  Gpu,
  GpuHealth,
  GpuLink,
  GpuReading,
  QueuedAllocation,
  Request,
  Share,
  WorkloadAsk,
} from "../core/model.ts";
import type { Plan } from "../core/plan.ts";
import { type Eta, etaOf, forecast } from "../core/queue/forecast.ts";
import { positionOf, type Waiting } from "../core/queue/line.ts";
import { type Asker, analysisFor } from "../core/queue/quotas.ts";
import type { HostState, KernelLogSight } from "../core/state.ts";
import { printable } from "../platform/printable.ts";
import type { DeliveryRecord } from "../scheduler/ports.ts";
import { allocationBody, numaNodesOf, timestamp } from "../scheduler/records.ts";
import type {
  DeliveryAnswer,
  GpuAnswer,
  HostDrainAnswer,
  ListAnswer,
  PlanAnswer,
  QueuedAnswer,
  StatusAnswer,
  WorkloadAnswer,
} from "./answer-schemas.ts";
import { migDevices } from "./mig-views.ts";

export function statusView(state: HostState, now: EpochMs): StatusAnswer {
  const { sight } = state;
  return {
    gpus: gpuViews(state, now),
    simulated: sight.simulated,
    driver_version: text(sight.driverVersion),
    cuda_version: text(sight.cudaVersion),
    ...hostDrainView(state),
    monitor: {
      healthy: sight.failure === null && sight.lastGoodProbeAt !== null,
      last_reading_at: instant(sight.lastGoodProbeAt),
      last_probe_at: instant(sight.lastProbeAt),
      failure: sight.failure === null ? null : { kind: sight.failure.kind, message: printable(sight.failure.message) },
      warnings: sight.warnings.map(printable),
      processes_hidden: sight.processesHidden,
      kernel_log: kernelLogView(sight.kernelLog),
    },
  };
}

function kernelLogView(log: KernelLogSight | null): StatusAnswer["monitor"]["kernel_log"] {
  return log === null ? null : { readable: log.problem === null, problem: log.problem, overruns: log.missed };
}

export function listView(state: HostState, now: EpochMs, actor: Actor): ListAnswer {
  const allocations = [];
  for (const allocation of state.allocations.values()) {
    if (allocation.status === "queued") continue;
    allocations.push({
      ...recordOf(allocation),
      ...healthOfLease(allocation, state, now),
      ...overMemory(allocation, state),
    });
  }
  const queue = [];
  const reasonOf = reasons(state, now, actor);
  const etas = forecast(state, now);
  for (const waiting of state.line.order.values()) {
    const { request } = waiting.allocation;
    queue.push({
      id: request.id,
      service_name: request.serviceName,
      required_gpus: request.requirement.gpus,
      min_memory_mb: request.requirement.memoryMib,
      priority: request.requirement.priority,
      position: queue.length + 1,
      submitted_at: timestamp(request.submittedAt),
      reason: reasonOf(waiting),
      eta: etaView(etas.get(request.id) ?? null),
    });
  }
  const gpus = gpuViews(state, now);
  return { gpus, simulated: state.sight.simulated, ...hostDrainView(state), allocations, queue };
}

export function hostDrainView(state: HostState): HostDrainAnswer {
  if (state.cordon === null) return { drain: null };
  const gpus = [...state.gpus.values()];
  const allocations = new Set(gpus.flatMap(({ hold }) => holdersOf(hold).map(({ allocationId }) => allocationId)));
  const drained = gpus.every((gpu) => isDrained(gpu, state));
  return { drain: { ...cordonView(state.cordon), drained, allocations: [...allocations] } };
}

function cordonView({ reason, by, at, drainBy }: Cordon) {
  return { reason: printable(reason), by, since: timestamp(at), drain_by: instant(drainBy) };
}

/** Requests that ask for the same have the same reason, unless GPUs are held for one; a long queue has few kinds. */
function reasons(state: HostState, now: EpochMs, actor: Actor): (waiting: Waiting) => string {
  const { explanationOf, kindOf } = explainer(state, now);
  const known = new Map<string, string>();
  return ({ familyKey, allocation }) => {
    const { request } = allocation;
    const all = seesAll(actor, allocation);
    const key = `${all}|${familyKey}|${request.requirement.memoryMib}|${kindOf(request)}`;
    const reason = known.get(key) ?? reasonFor(explanationOf(request), all);
    known.set(key, reason);
    return reason;
  };
}

function reasonFor({ reason, publicReason }: Explanation, all: boolean): string {
  return printable(all ? reason : publicReason);
}

function etaView(eta: Eta | null) {
  return eta === null ? null : { earliest: timestamp(eta.earliest), latest: timestamp(eta.latest) };
}

/** What the owner of a request is answered that has to wait. */
export function queuedView(allocation: QueuedAllocation, state: HostState, now: EpochMs): QueuedAnswer {
  const { request } = allocation;
  return {
    status: "queued",
    id: request.id,
    request_id: request.id,
    submitted_at: timestamp(request.submittedAt),
    priority: request.requirement.priority,
    ...standing(request, state, now, true),
  };
}

/** @param all whoever asks may know all about the request. */
function standing(request: Request, state: HostState, now: EpochMs, all: boolean) {
  const explanation = explain(request, state, now);
  const { gpus } = explanation;
  return {
    position: positionOf(state.line, request, state.policy),
    reason: reasonFor(explanation, all),
    eta: etaView(etaOf(request, state, now)),
    gpus: reasonsView(gpus, state),
  };
}

/** Of each GPU, why not; `null` for one that would do. */
function reasonsView(gpus: Explanation["gpus"], state: HostState) {
  return [...gpus].map(([uuid, reason]) => ({
    id: state.gpus.get(uuid)?.index ?? null,
    uuid: printable(uuid),
    reason,
  }));
}

/** What a workload is made of, where its webhooks go, and what is left of its quota is for its owner and for admins. */
export function seesAll(actor: Actor, { request }: Allocation): boolean {
  return actor.admin || actor.principal === request.principal;
}

/** One record, as far as `actor` may see it. */
export function recordView(allocation: Allocation, state: HostState, now: EpochMs, actor: Actor) {
  const { request } = allocation;
  const all = seesAll(actor, allocation);
  return {
    ...recordOf(allocation),
    ...(allocation.status === "queued" ? standing(request, state, now, all) : {}),
    ...healthOfLease(allocation, state, now),
    ...overMemory(allocation, state),
    ...(all ? { workload_data: request.workloadData, webhook_url: request.webhookUrl } : {}),
  };
}

/** What is wrong with the GPUs that are held: whoever works there should save what can be saved. */
function healthOfLease(allocation: Allocation, state: HostState, now: EpochMs) {
  if (allocation.status === "queued" || allocation.status === "ended") return {};
  const ailing_gpus = [];
  for (const { uuid } of allocation.lease.gpus) {
    const gpu = state.gpus.get(uuid);
    const ailment = gpu === undefined ? null : ailmentView(gpu, state, now);
    // A cordon is no news for those who are there already.
    if (ailment !== null && ailment.state !== "cordoned") ailing_gpus.push({ uuid: printable(uuid), ...ailment });
  }
  return { ailing_gpus };
}

/** Since when a shared lease has used more memory of any of its GPUs than is reserved for it. */
function overMemory(allocation: Allocation, state: HostState): { over_memory_since?: string } {
  if (allocation.status === "queued" || allocation.status === "ended") return {};
  const { request, lease } = allocation;
  const since = lease.gpus
    .flatMap(({ uuid }) => sharesOf(state.gpus.get(uuid)))
    .filter(({ allocationId }) => allocationId === request.id)
    .map(({ overSince }) => overSince ?? Infinity)
    .reduce((earliest, at) => Math.min(earliest, at), Infinity);
  return since === Infinity ? {} : { over_memory_since: timestamp(since) };
}

function sharesOf(gpu: Gpu | undefined): readonly Share[] {
  return gpu?.hold.kind === "shared" ? gpu.hold.shares : [];
}

/** What keeps a GPU from new leases, apart from the one that it is in; `null`: nothing. */
function ailmentView(gpu: Gpu, state: HostState, now: EpochMs) {
  if (gpu.hold.kind === "free") return null;
  const ailment = ailing(gpu, state, now);
  // On a held GPU an unknown process counts as the holder's own.
  if (ailment !== null && ailment.block !== "occupied") {
    return { state: stateOf(ailment.block), reason: printable(ailment.detail), since: instant(ailment.since) };
  }
  const isolation = isolationOf(gpu, state);
  if (isolation === null) return null;
  return { state: "isolated" as const, reason: printable(isolation.detail), since: instant(isolation.since) };
}

function recordOf(allocation: Allocation) {
  const body = allocationBody(allocation);
  // The record's types promise no changes; the answer's schema knows of no such promise.
  return body as ListAnswer["allocations"][number];
}

/**
 * What the analyzer would ask for, and whether this host could ever hold it.
 *
 * @param kind which devices will do, and whether a part of each will.
 * @param asker whose quotas bound the priority.
 */
export function workloadView(
  ask: WorkloadAsk,
  kind: Pick<Request, "gpuModel" | "migProfile" | "sharing">,
  asker: Asker,
  state: HostState,
): WorkloadAnswer {
  const { requirement, sources, notes } = analysisFor(ask, asker, state.policy);
  const missing = neverFits({ ...NOBODY, ...ask, requirement, ...kind }, state);
  return {
    workload_type: ask.workloadType,
    required_gpus: requirement.gpus,
    min_memory_mb: requirement.memoryMib,
    priority: requirement.priority,
    max_utilization: requirement.maxUtilizationPercent,
    sources: {
      required_gpus: sources.requiredGpus,
      min_memory_mb: sources.minMemoryMib,
      priority: sources.priority,
      max_utilization: sources.maxUtilization,
    },
    notes: [...notes],
    fits: missing === null,
    missing: text(missing),
  };
}

/** What became of one webhook so far. */
export function deliveryView(record: DeliveryRecord): DeliveryAnswer {
  return {
    id: record.deliveryId,
    allocation_id: record.allocationId,
    status: record.status,
    url: printable(record.url),
    state: record.state,
    attempts: record.attempts,
    created_at: timestamp(record.createdAt),
    last_attempt_at: instant(record.lastAttemptAt),
    next_attempt_at: instant(record.nextAttemptAt),
    settled_at: instant(record.settledAt),
    http_status: record.httpStatus,
    error: text(record.error),
  };
}

/** What would come of a request, and of each GPU why not. */
export function planView(ask: AllocateAsk, { principal }: Actor, plan: Plan, state: HostState): PlanAnswer {
  const { requirement } = analysisFor(ask, { principal, serviceName: ask.serviceName }, state.policy);
  const granted = plan.outcome === "granted" ? plan.gpus : null;
  const reasons = plan.outcome === "queued" ? plan.explanation.gpus : plan.outcome === "refused" ? plan.gpus : null;
  return {
    outcome: plan.outcome,
    code: plan.outcome === "refused" ? plan.code : null,
    reason: plan.outcome === "granted" ? null : printable(reasonOf(plan)),
    required_gpus: requirement.gpus,
    min_memory_mb: requirement.memoryMib,
    priority: requirement.priority,
    gpu_ids: granted === null ? null : granted.map(({ index }) => index),
    gpu_uuids: granted === null ? null : granted.map(({ uuid }) => uuid),
    position: plan.outcome === "queued" ? plan.position : null,
    eta: plan.outcome === "queued" ? etaView(plan.eta) : null,
    gpus: reasonsView(reasons ?? new Map(), state),
  };
}

function reasonOf(plan: Exclude<Plan, { outcome: "granted" }>): string {
  return plan.outcome === "queued" ? plan.explanation.reason : plan.reason;
}

/** The part of a request that does not decide whether it fits. */
const NOBODY = {
  id: "",
  serviceName: "",
  principal: "",
  webhookUrl: null,
  preferredGpus: [],
  ttlMs: null,
  maxDurationMs: null,
  preemptible: false,
  queueTimeoutMs: null,
  migProfile: null,
  fairShareDelayMs: 0,
  submittedAt: 0,
};

/** Every GPU ever seen, and those that the books have not taken in yet because the store refuses to. */
function gpuViews(state: HostState, now: EpochMs): GpuAnswer[] {
  const views: GpuAnswer[] = [];
  for (const gpu of state.gpus.values()) if (gpu.mig === null) views.push(gpuView(gpu, state, now));
  for (const [uuid, { reading }] of state.sight.gpus) {
    if (!state.gpus.has(uuid) && reading.mig === undefined) views.push(unrecorded(reading, state));
  }
  return views.sort((a, b) => a.id - b.id || (a.uuid < b.uuid ? -1 : 1));
}

/** One GPU of the inventory, or that of which it is an instance; `null` when it is not there. */
export function gpuViewOf(uuid: string, state: HostState, now: EpochMs): GpuAnswer | null {
  const gpu = state.gpus.get(uuid);
  const whole = gpu === undefined ? undefined : state.gpus.get(boardOf(gpu));
  return whole === undefined ? null : gpuView(whole, state, now);
}

function gpuView(gpu: Gpu, state: HostState, now: EpochMs): GpuAnswer {
  const view = deviceView(gpu, state, now);
  const instances = migDevices(gpu, state, (instance) => deviceView(instance, state, now));
  if (view.allocated) return { ...view, mig_devices: instances };
  const held = instances.filter(({ allocated }) => allocated);
  const services = new Set(held.map(({ allocated_to }) => allocated_to));
  const since = held.flatMap(({ allocated_at }) => allocated_at ?? []).sort()[0];
  return {
    ...view,
    mig_devices: instances,
    allocated: held.length > 0,
    allocated_to: held.length > 0 ? [...services].sort().join(", ") : null,
    ...(since === undefined ? {} : { allocated_at: since }),
  };
}

/** A GPU, or an instance of one. */
function deviceView(gpu: Gpu, state: HostState, now: EpochMs): Omit<GpuAnswer, "mig_devices"> {
  const { hold } = gpu;
  const blocked = blockOf(gpu, state, now);
  const holders = holderViews(gpu, state);
  return {
    ...identityView(gpu),
    ...figuresView(gpu.uuid, state),
    allocated: holders.length > 0,
    // Who shares it is named once, however many parts it has.
    allocated_to: [...new Set(holders.map(({ service_name }) => service_name))].join(", ") || null,
    ...(holders[0] === undefined ? {} : { allocated_at: holders[0].since }),
    state: stateOf(blocked?.block ?? null),
    reason: text(blocked === null ? reservationOf(gpu, state) : blocked.detail),
    since: instant(blocked?.since ?? null),
    ailment: ailmentView(gpu, state, now),
    cordon: gpu.cordon === null ? null : cordonView(gpu.cordon),
    drained: isDrained(gpu, state),
    holders,
    shared: hold.kind === "shared" ? sharedView(gpu, hold, state) : null,
  };
}

function holderViews({ hold }: Gpu, state: HostState): GpuAnswer["holders"] {
  return holdersOf(hold).flatMap(({ allocationId, since, use }) => {
    const holder = state.allocations.get(allocationId);
    if (holder === undefined) return [];
    const share = hold.kind === "shared" ? hold.shares.find((one) => one.allocationId === allocationId) : undefined;
    return [
      {
        allocation_id: allocationId,
        service_name: holder.request.serviceName,
        since: timestamp(since),
        in_use_since: instant(use.since),
        idle_since: instant(holder.status === "leased" ? holder.idleSince : null),
        leave_by: instant("notice" in holder ? (holder.notice?.until ?? null) : null),
        sharing: holder.request.sharing,
        memory_mb: share?.memoryMib ?? null,
        settled: share === undefined ? null : share.settledAt !== null,
        over_memory_since: instant(share?.overSince ?? null),
      },
    ];
  });
}

function sharedView(gpu: Gpu, hold: SharedHold, { sight, policy }: HostState): GpuAnswer["shared"] {
  const seen = sight.gpus.get(gpu.uuid);
  return {
    reserved_mb: reservedMib(hold),
    free_mb: seen === undefined ? null : shareableMib(gpu, seen, policy.sharing),
    leaving: hold.remains.map(({ allocationId, since, memoryMib }) => ({
      allocation_id: allocationId,
      since: timestamp(since),
      memory_mb: memoryMib,
    })),
  };
}

/** What speaks against a GPU that may be granted, to some or when others are free; `null`: nothing. */
function reservationOf(gpu: Gpu, state: HostState): string | null {
  const isolation = isolationOf(gpu, state);
  if (isolation !== null) return `only for requests of one GPU: ${isolation.detail}`;
  const strain = strainOf(gpu, state);
  return strain === null ? null : `taken last: ${strain}`;
}

function unrecorded(reading: GpuReading, state: HostState): GpuAnswer {
  return {
    ...identityView(reading),
    ...figuresView(reading.uuid, state),
    allocated: false,
    allocated_to: null,
    state: "unknown",
    reason: "seen, but not yet recorded: the store takes no changes",
    since: null,
    ailment: null,
    cordon: null,
    drained: false,
    mig_devices: [],
    holders: [],
    shared: null,
  };
}

function stateOf(block: NonNullable<ReturnType<typeof blockOf>>["block"] | null): GpuAnswer["state"] {
  if (block === null) return "free";
  return block === "held" ? "leased" : block;
}

function identityView(gpu: Pick<Gpu, "index" | "uuid" | "name" | "pciBusId">) {
  return { id: gpu.index, uuid: printable(gpu.uuid), name: printable(gpu.name), pci_bus_id: text(gpu.pciBusId) };
}

/** The latest figures, however old: `last_updated` says so. All `null` when there is no reading. */
function figuresView(uuid: string, state: HostState) {
  const sight = state.sight.gpus.get(uuid);
  const reading = sight?.reading;
  return {
    memory_total: reading?.memoryTotalMib ?? null,
    memory_reserved: reading?.memoryReservedMib ?? null,
    memory_used: reading?.memoryUsedMib ?? null,
    memory_free: reading?.memoryFreeMib ?? null,
    utilization: reading?.utilizationPercent ?? null,
    temperature: reading?.temperatureC ?? null,
    power_draw: reading?.powerDrawW ?? null,
    power_limit: reading?.powerLimitW ?? null,
    last_updated: instant(sight?.finishedAt ?? null),
    health: reading === undefined ? null : healthView(reading.health),
    xid_errors: [...(state.sight.xids.get(uuid) ?? [])]
      .sort(([a], [b]) => a - b)
      .map(([xid, { count, lastAt }]) => ({ xid, meaning: meaningOf(xid), count, last_seen: timestamp(lastAt) })),
    mig_mode: text(reading?.migMode ?? null),
    ...localityView(uuid, state),
    processes: (reading?.processes ?? []).map((process) => ({
      pid: process.pid,
      type: text(process.type),
      name: text(process.name),
      user: text(process.origin?.user ?? null),
      allocation_id: sight?.owners.get(process.pid) ?? null,
      used_memory: process.usedMemoryMib,
    })),
  };
}

/** Where it sits. A GPU that has gone missing is still shown where it was. */
function localityView(uuid: string, { sight: { closeness } }: HostState) {
  const locality = localityOf(closeness, uuid);
  return {
    numa_nodes: numaNodesOf([locality]),
    cpu_affinity: locality.cpuAffinity,
    links: closeness === null ? null : linksOf(closeness, uuid),
  };
}

function linksOf({ topology, places }: Closeness, uuid: string): GpuAnswer["links"] {
  const place = places.get(uuid);
  if (place === undefined) return null;
  const links = topology.gpus.map((peer, other) => [printable(peer.uuid), topology.links[place]?.[other]] as const);
  return Object.fromEntries(links.filter((entry): entry is [string, GpuLink] => typeof entry[1] === "string"));
}

function healthView(health: GpuHealth): NonNullable<GpuAnswer["health"]> {
  return {
    ecc_mode: text(health.eccMode),
    ecc_corrected_volatile: health.eccCorrectedVolatile,
    ecc_corrected_aggregate: health.eccCorrectedAggregate,
    ecc_uncorrected_volatile: health.eccUncorrectedVolatile,
    ecc_uncorrected_aggregate: health.eccUncorrectedAggregate,
    sram_threshold_exceeded: health.sramThresholdExceeded,
    repair_pending: health.repairPending,
    retired_pages: health.retiredPages,
    retired_pages_pending: health.retiredPagesPending,
    remapped_rows_correctable: health.remappedRowsCorrectable,
    remapped_rows_uncorrectable: health.remappedRowsUncorrectable,
    remapped_rows_pending: health.remappedRowsPending,
    remapped_rows_failure: health.remappedRowsFailure,
    recovery_action: text(health.recoveryAction),
    fabric_state: text(health.fabricState),
    fabric_status: text(health.fabricStatus),
    fabric_health: text(health.fabricHealth),
    slowdown: health.slowdown,
  };
}

function instant(at: EpochMs | null): string | null {
  return at === null ? null : timestamp(at);
}

function text(given: string | null): string | null {
  return given === null ? null : printable(given);
}
