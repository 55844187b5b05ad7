/** Figures of the host, its GPUs and its queue: all from the scheduler's state at the time of the scrape. */
import type { Registry } from "prom-client";
import { candidates } from "../core/host/candidates.ts";
import { ailing, BLOCKS, blockOf, isolationOf, staleness } from "../core/host/condition.ts";
import { cordonsOf, isDrained } from "../core/host/cordons.ts";
import { indexNow } from "../core/host/indices.ts";
import type { HostState } from "../core/host/state.ts";
import type { Request } from "../core/model/allocation.ts";
import type { Gpu } from "../core/model/gpu.ts";
import { holdersOf, reservedMib, type SharedHold } from "../core/model/holds.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { GpuReading } from "../core/model/reading.ts";
import { MAX_SERVICES } from "./allocations.ts";
import { counterFamily, gauge, gaugeFamily } from "./families.ts";
import { registerHolding } from "./holding.ts";
import { type Instant, stateName } from "./instant.ts";
import { registerMig } from "./mig.ts";
import { BoundedLabel } from "./tally.ts";

const BYTES_PER_MIB = 1_048_576;

const GPU_STATES = ["free", ...BLOCKS.map(stateName)];

export function registerHost(registry: Registry, look: () => Instant): void {
  registerReadings(registry, look);
  registerXids(registry, look);
  gauge(
    registry,
    "gpu_orchestrator_allocations_active",
    "Allocations that hold GPUs: offered or leased",
    // A live allocation either waits or holds GPUs.
    () => look().state.allocations.size - look().state.line.order.size,
  );
  gauge(registry, "gpu_orchestrator_queue_depth", "Requests that wait", () => look().state.line.order.size);
  gauge(
    registry,
    "gpu_orchestrator_gpus_total",
    "GPUs of the inventory: every one ever seen and not removed, lost ones included",
    () => wholeGpus(look().state).length,
  );
  gauge(registry, "gpu_orchestrator_gpus_available", "GPUs that an exclusive request could be granted now", () => {
    const { state, now } = look();
    return candidates(state, now).filter(({ gpu, shared }) => gpu.mig === null && !shared).length;
  });
  gauge(registry, "gpu_allocator_gpus_allocated_total", "GPUs that are leased or offered now", () => {
    let leased = 0;
    for (const { hold } of wholeGpus(look().state)) if (holdersOf(hold).length > 0) leased++;
    return leased;
  });
  registerLeaving(registry, look);
  registerIdle(registry, look);
  registerHolding(registry, look);
  registerMig(registry, look);
  registerShares(registry, look);
  gaugeFamily(registry, {
    name: "gpu_orchestrator_gpu_state",
    help: "1 for the state that a GPU is in, 0 for those that it is not in",
    labelNames: ["gpu_id", "gpu_name", "gpu_uuid", "state"],
    read: () => statesOf(look()),
  });
  gaugeFamily(registry, {
    name: "gpu_orchestrator_gpu_ailing",
    help: "1 for what is wrong with a GPU, leased or not, 0 for what is not",
    labelNames: ["gpu_id", "gpu_name", "gpu_uuid", "state"],
    read: () => ailmentsOf(look()),
  });
}

/** MIG instances have metrics of their own, so the figures of a host's GPUs are those of whole GPUs. */
function wholeGpus({ gpus }: HostState): readonly Gpu[] {
  return gpus.values().filter(({ mig }) => mig === null);
}

/** Errors that the kernel's log tells of; the driver numbers some hundred kinds of them. */
function registerXids(registry: Registry, look: () => Instant): void {
  counterFamily(registry, {
    name: "gpu_orchestrator_gpu_xid_errors_total",
    help: "Xid errors in the kernel's log, as far back as it goes at the start of the daemon",
    labelNames: ["gpu_id", "gpu_name", "gpu_uuid", "xid"],
    *read() {
      const { state } = look();
      for (const gpu of state.gpus.values()) {
        for (const [xid, { count: value }] of state.sight.xids.get(gpu.uuid) ?? []) {
          const labels = {
            gpu_id: indexLabel(state, gpu.uuid),
            gpu_name: gpu.name,
            gpu_uuid: gpu.uuid,
            xid: String(xid),
          };
          yield { labels, value };
        }
      }
    },
  });
  gauge(registry, "gpu_orchestrator_kernel_log_readable", "1 when the kernel's log can be read for Xid errors", () => {
    const log = look().state.sight.kernelLog;
    return log === null ? null : Number(log.problem === null);
  });
}

/** What can be wrong with a GPU itself. */
const AILMENTS = ["lost", "unhealthy", "unknown", "recovering", "degraded", "quarantined", "isolated"] as const;

/** A lease hides its GPU's state: what is wrong with the GPU itself is counted whether it is leased or not. */
function* ailmentsOf({ state, now }: Instant) {
  for (const gpu of wholeGpus(state)) {
    const block = ailing(gpu, state, now)?.block ?? (isolationOf(gpu, state) === null ? null : "isolated");
    for (const name of AILMENTS) {
      const labels = { gpu_id: indexLabel(state, gpu.uuid), gpu_name: gpu.name, gpu_uuid: gpu.uuid, state: name };
      yield { labels, value: name === block ? 1 : 0 };
    }
  }
}

/** Cordons, and the leases that must end: on drained GPUs, or for a preemption. */
function registerLeaving(registry: Registry, look: () => Instant): void {
  gauge(registry, "gpu_orchestrator_gpus_cordoned", "GPUs that get no new leases, by an admin's word", () => {
    const { state } = look();
    return state.gpus.values().filter((gpu) => cordonsOf(gpu, state).length > 0).length;
  });
  gauge(registry, "gpu_orchestrator_gpus_drained", "Those of them on which nothing is left of any lease", () => {
    const { state } = look();
    return state.gpus.values().filter((gpu) => isDrained(gpu, state)).length;
  });
  gaugeFamily(registry, {
    name: "gpu_orchestrator_leaving_leases",
    help: "Leases and offers that have been told when they are taken back",
    labelNames: ["reason"],
    *read() {
      const told = { preempt: new Set<AllocationId>(), drain: new Set<AllocationId>() };
      const { state } = look();
      for (const { hold } of state.gpus.values()) {
        for (const { allocationId } of holdersOf(hold)) {
          const holder = state.allocations.get(allocationId);
          if (holder === undefined || holder.status === "queued" || holder.notice === null) continue;
          told[holder.notice.kind].add(allocationId);
        }
      }
      yield { labels: { reason: "preempted" }, value: told.preempt.size };
      yield { labels: { reason: "drained" }, value: told.drain.size };
    },
  });
}

/** Leases flagged as idle. A service that has had one keeps its series, at 0. */
function registerIdle(registry: Registry, look: () => Instant): void {
  const services = new BoundedLabel(MAX_SERVICES);
  const leases = new Map<string, number>();
  gaugeFamily(registry, {
    name: "gpu_orchestrator_idle_leases",
    help: "Leases without a TTL whose GPUs have not been used for allocator.idle_after or longer",
    labelNames: ["service"],
    *read() {
      for (const service of leases.keys()) leases.set(service, 0);
      for (const { serviceName } of idleRequests(look().state)) {
        const service = services.of(serviceName);
        leases.set(service, (leases.get(service) ?? 0) + 1);
      }
      for (const [service, value] of leases) yield { labels: { service }, value };
    },
  });
}

/** What shared leases reserve, and which of them use more. A GPU that is not shared has 0 of both. */
function registerShares(registry: Registry, look: () => Instant): void {
  const labelNames = ["gpu_id", "gpu_name", "gpu_uuid"] as const;
  const perGpu = (name: string, help: string, figure: (hold: SharedHold) => number) =>
    gaugeFamily(registry, {
      name,
      help,
      labelNames: [...labelNames],
      *read() {
        for (const { index, name: gpu_name, uuid, hold } of look().state.gpus.values()) {
          const labels = { gpu_id: String(index), gpu_name, gpu_uuid: uuid };
          yield { labels, value: hold.kind === "shared" ? figure(hold) : 0 };
        }
      },
    });
  perGpu(
    "gpu_orchestrator_gpu_shared_memory_reserved_bytes",
    "Memory that shared leases have reserved, those that have ended and are not gone included",
    (hold) => reservedMib(hold) * BYTES_PER_MIB,
  );
  perGpu("gpu_orchestrator_gpu_shared_leases", "Leases that share the GPU now", ({ shares }) => shares.length);
  perGpu(
    "gpu_orchestrator_gpu_leases_over_memory",
    "Shared leases that use more memory than is reserved for them",
    ({ shares }) => shares.filter(({ overSince }) => overSince !== null).length,
  );
}

/** Found by way of the GPUs, of which there are few. */
function idleRequests(state: HostState): ReadonlySet<Request> {
  const found = new Set<Request>();
  for (const { hold } of state.gpus.values()) {
    for (const { allocationId } of holdersOf(hold)) {
      const holder = state.allocations.get(allocationId);
      if (holder?.status === "leased" && holder.idleSince !== null) found.add(holder.request);
    }
  }
  return found;
}

function* statesOf({ state, now }: Instant) {
  for (const gpu of wholeGpus(state)) {
    const block = blockOf(gpu, state, now)?.block;
    const current = block === undefined ? "free" : stateName(block);
    for (const name of GPU_STATES) {
      const labels = { gpu_id: indexLabel(state, gpu.uuid), gpu_name: gpu.name, gpu_uuid: gpu.uuid, state: name };
      yield { labels, value: name === current ? 1 : 0 };
    }
  }
}

type Figure = (reading: GpuReading) => number | null;

const READINGS: readonly (readonly [name: string, help: string, figure: Figure])[] = [
  ["utilization_percent", "Share of the time in which a kernel ran on the GPU", (gpu) => gpu.utilizationPercent],
  ["memory_used_mb", "Memory in use, in MiB", (gpu) => gpu.memoryUsedMib],
  ["memory_total_mb", "Memory that the GPU has, in MiB", (gpu) => gpu.memoryTotalMib],
  ["temperature_celsius", "Temperature of the GPU's core", (gpu) => gpu.temperatureC],
  ["power_draw_watts", "Power that the GPU draws", (gpu) => gpu.powerDrawW],
];

/** Only what is seen now: a figure that the driver does not give, or that is stale, is left out. */
function registerReadings(registry: Registry, look: () => Instant): void {
  for (const [name, help, figure] of READINGS) {
    gaugeFamily(registry, {
      name: `gpu_orchestrator_gpu_${name}`,
      help,
      labelNames: ["gpu_id", "gpu_name"],
      *read() {
        const { state, now } = look();
        for (const { reading } of state.sight.gpus.values()) {
          if (reading.mig !== undefined || staleness(reading.uuid, state, now) !== null) continue;
          yield { labels: { gpu_id: indexLabel(state, reading.uuid), gpu_name: reading.name }, value: figure(reading) };
        }
      },
    });
  }
}

/** Empty for a GPU that the driver does not count now. */
function indexLabel(state: HostState, uuid: string): string {
  return String(indexNow(state)(uuid) ?? "");
}
