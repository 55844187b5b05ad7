/** Who holds how many GPUs now: by service and by principal, both bounded. */
import type { Registry } from "prom-client";
import type { Request } from "../core/model/allocation.ts";
import { holdersOf } from "../core/model/holds.ts";
import { MAX_SERVICES } from "./allocations.ts";
import { gaugeFamily } from "./families.ts";
import type { Instant } from "./instant.ts";
import { BoundedLabel } from "./tally.ts";

export function registerHolding(registry: Registry, look: () => Instant): void {
  held(registry, look, "service", ({ serviceName }) => serviceName);
  held(registry, look, "principal", ({ principal }) => principal);
}

/** Who has held one keeps its series, at 0. A GPU that several share, and a MIG instance, is one to each. */
function held(registry: Registry, look: () => Instant, label: string, nameOf: (request: Request) => string): void {
  const names = new BoundedLabel(MAX_SERVICES);
  const counts = new Map<string, number>();
  gaugeFamily(registry, {
    name: `gpu_orchestrator_${label}_gpus_held`,
    help: `GPUs and MIG instances that a ${label} holds or shares now`,
    labelNames: [label],
    *read() {
      const { state } = look();
      for (const name of counts.keys()) counts.set(name, 0);
      for (const { hold } of state.gpus.values()) {
        for (const { allocationId } of holdersOf(hold)) {
          const holder = state.allocations.get(allocationId);
          if (holder === undefined) continue;
          const name = names.of(nameOf(holder.request));
          counts.set(name, (counts.get(name) ?? 0) + 1);
        }
      }
      for (const [name, value] of counts) yield { labels: { [label]: name }, value };
    },
  });
}
