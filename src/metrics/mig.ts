/** Figures of MIG instances. A GPU has at most seven, so their labels are bounded by the host. */
import type { Registry } from "prom-client";
import { blockOf, staleness } from "../core/host/condition.ts";
import { isInstance } from "../core/model/mig.ts";
import type { GpuReading } from "../core/model/reading.ts";
import { gaugeFamily } from "./families.ts";
import { type Instant, stateName } from "./instant.ts";

const MIB = 2 ** 20;

export function registerMig(registry: Registry, look: () => Instant): void {
  gaugeFamily(registry, {
    name: "gpu_orchestrator_mig_devices",
    help: "MIG instances of the inventory by profile and by the state that they are in",
    labelNames: ["gpu_id", "gpu_uuid", "profile", "state"],
    read: () => countsOf(look()),
  });
  memory(registry, look, "total", "Memory of a MIG instance's GPU instance", (reading) => reading.memoryTotalMib);
  memory(registry, look, "used", "Memory that a MIG instance uses of it", (reading) => reading.memoryUsedMib);
}

function countsOf({ state, now }: Instant) {
  const counts = new Map<string, ReturnType<typeof none>>();
  for (const gpu of state.gpus.values().filter(isInstance)) {
    const block = blockOf(gpu, state, now)?.block;
    const sample = none(
      gpu.index,
      gpu.mig.parentUuid,
      gpu.mig.profile,
      block === undefined ? "free" : stateName(block),
    );
    const key = JSON.stringify(sample.labels);
    counts.set(key, { ...sample, value: (counts.get(key)?.value ?? 0) + 1 });
  }
  return counts.values();
}

function none(index: number, gpu_uuid: string, profile: string, state: string) {
  return { labels: { gpu_id: String(index), gpu_uuid, profile, state }, value: 0 };
}

function memory(
  registry: Registry,
  look: () => Instant,
  which: "total" | "used",
  help: string,
  figureMib: (reading: GpuReading) => number | null,
): void {
  gaugeFamily(registry, {
    name: `gpu_orchestrator_mig_device_memory_${which}_bytes`,
    help,
    labelNames: ["gpu_id", "gpu_uuid", "mig_uuid", "profile"],
    *read() {
      const { state, now } = look();
      for (const { reading } of state.sight.gpus.values()) {
        const { mig, uuid, index } = reading;
        if (mig === undefined || staleness(uuid, state, now) !== null) continue;
        const labels = { gpu_id: String(index), gpu_uuid: mig.parentUuid, mig_uuid: uuid, profile: mig.profile };
        const mib = figureMib(reading);
        yield { labels, value: mib === null ? null : mib * MIB };
      }
    },
  });
}
