/** GPUs as the API shows them: pure functions over a state. */
import { compareText } from "../../core/base/order.ts";
import type { EpochMs } from "../../core/base/time.ts";
import { owns } from "../../core/decisions/lifecycle.ts";
import { ailing, blockOf, isolationOf, proposedIdleMib, strainOf } from "../../core/host/condition.ts";
import { isDrained } from "../../core/host/cordons.ts";
import { indexNow } from "../../core/host/indices.ts";
import { shareableMib } from "../../core/host/shared-memory.ts";
import type { HostState } from "../../core/host/state.ts";
import type { GpuLink } from "../../core/model/device.ts";
import type { Cordon, Gpu } from "../../core/model/gpu.ts";
import { holdersOf, reservedMib, type SharedHold } from "../../core/model/holds.ts";
import type { Actor } from "../../core/model/ids.ts";
import { heldUntil } from "../../core/model/leases.ts";
import { boardOf } from "../../core/model/mig.ts";
import type { GpuHealth, GpuReading } from "../../core/model/reading.ts";
import { type Closeness, localityOf } from "../../core/readings/closeness.ts";
import { meaningOf } from "../../core/readings/xid.ts";
import { printable } from "../../platform/printable.ts";
import { numaNodesOf } from "../../wire/allocations/bodies.ts";
import type { GpuAnswer } from "../../wire/gpus/answers.ts";
import { instant, text, timestamp } from "../../wire/values.ts";
import { migDevices } from "./instances.ts";

export function cordonView({ reason, by, at, drainBy }: Cordon) {
  return { reason: printable(reason), by, since: timestamp(at), drain_by: instant(drainBy) };
}

/** What keeps a GPU from new leases, apart from the one that it is in; `null`: nothing. */
export function ailmentView(gpu: Gpu, state: HostState, now: EpochMs) {
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

/**
 * Every GPU ever seen, and those that the books have not taken in yet because the store refuses to.
 *
 * @param actor may know the principals of what is its own, or is an admin and may know all; `null`: none are told.
 */
export function gpuViews(state: HostState, now: EpochMs, actor: Actor | null): GpuAnswer[] {
  const views: GpuAnswer[] = [];
  for (const gpu of state.gpus.values()) if (gpu.mig === null) views.push(gpuView(gpu, state, now, actor));
  for (const [uuid, { reading }] of state.sight.gpus) {
    if (!state.gpus.has(uuid) && reading.mig === undefined) views.push(unrecorded(reading, state));
  }
  return views.sort(byIndex);
}

/** By the index of now, then by UUID. Those that the driver does not count now come last. */
export function byIndex(a: Pick<GpuAnswer, "id" | "uuid">, b: Pick<GpuAnswer, "id" | "uuid">): number {
  const place = ({ id }: Pick<GpuAnswer, "id">) => id ?? Number.MAX_SAFE_INTEGER;
  return place(a) - place(b) || compareText(a.uuid, b.uuid);
}

/** One GPU of the inventory, or that of which it is an instance; `null` when it is not there. */
export function gpuViewOf(uuid: string, state: HostState, now: EpochMs, actor: Actor | null): GpuAnswer | null {
  const gpu = state.gpus.get(uuid);
  const whole = gpu === undefined ? undefined : state.gpus.get(boardOf(gpu));
  return whole === undefined ? null : gpuView(whole, state, now, actor);
}

function gpuView(gpu: Gpu, state: HostState, now: EpochMs, actor: Actor | null): GpuAnswer {
  const view = deviceView(gpu, state, now, actor);
  const instances = migDevices(gpu, state, (instance) => deviceView(instance, state, now, actor));
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
function deviceView(gpu: Gpu, state: HostState, now: EpochMs, actor: Actor | null): Omit<GpuAnswer, "mig_devices"> {
  const { hold } = gpu;
  const blocked = blockOf(gpu, state, now);
  const holders = holderViews(gpu, state, actor);
  return {
    ...identityView(gpu, state),
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

function holderViews({ hold }: Gpu, state: HostState, actor: Actor | null): GpuAnswer["holders"] {
  return holdersOf(hold).flatMap(({ allocationId, since, use }) => {
    const holder = state.allocations.get(allocationId);
    if (holder === undefined) return [];
    const share = hold.kind === "shared" ? hold.shares.find((one) => one.allocationId === allocationId) : undefined;
    return [
      {
        allocation_id: allocationId,
        service_name: holder.request.serviceName,
        ...(actor !== null && owns(actor, holder) ? { principal: holder.request.principal } : {}),
        since: timestamp(since),
        expires_at: instant(holder.status === "queued" ? null : heldUntil(holder)),
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
    ...identityView(reading, state),
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

function identityView({ uuid, name, pciBusId }: Pick<Gpu, "uuid" | "name" | "pciBusId">, state: HostState) {
  return { id: indexNow(state)(uuid), uuid: printable(uuid), name: printable(name), pci_bus_id: text(pciBusId) };
}

/** The latest figures, however old: `last_updated` says so. All `null` when there is no reading. */
function figuresView(uuid: string, state: HostState) {
  const sight = state.sight.gpus.get(uuid);
  const reading = sight?.reading;
  return {
    memory_total: reading?.memoryTotalMib ?? null,
    memory_source: memorySourceOf(reading),
    proposed_idle_memory_mb: sight === undefined ? null : proposedIdleMib(sight),
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

function memorySourceOf(reading: GpuReading | undefined): GpuAnswer["memory_source"] {
  if (reading === undefined || reading.memoryTotalMib === null) return null;
  return reading.memorySource ?? "driver";
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
    unrepairable_memory: health.unrepairableMemory,
    license: text(health.license),
    slowdown: health.slowdown,
  };
}
