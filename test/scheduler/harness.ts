import type { AllocateAsk } from "../../src/core/commands.ts";
import type { HostReading, Policy } from "../../src/core/model.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import { sortableIds } from "../../src/platform/ids.ts";
import type { Store } from "../../src/scheduler/ports.ts";
import { Scheduler } from "../../src/scheduler/scheduler.ts";
import { hostReading } from "../fixtures/readings.ts";
import { ASK, DEFAULT_POLICY, h100 } from "../simulation/simulated-host.ts";

export function ask(over: Partial<AllocateAsk> = {}): AllocateAsk {
  return { ...ASK, ...over };
}

/** What a probe of a host with `gpus` idle GPUs brings. */
export function reading(gpus: number): HostReading {
  return hostReading(Array.from({ length: gpus }, (_, index) => h100(`GPU-${index}`, { index })));
}

export interface Running {
  readonly scheduler: Scheduler;
  readonly clock: ManualClock;
  readonly bugs: unknown[];
  look(gpus?: number): Promise<void>;
}

/** A scheduler over `store`, started, that has seen `gpus` idle GPUs. */
export async function startScheduler(
  store: Store,
  {
    gpus = 1,
    policy = {},
    clock = new ManualClock(),
  }: { gpus?: number; policy?: Partial<Policy>; clock?: ManualClock } = {},
): Promise<Running> {
  const bugs: unknown[] = [];
  const stored = store.load();
  const scheduler = new Scheduler(
    {
      store,
      clock,
      newId: sortableIds(),
      policy: { ...DEFAULT_POLICY, ...policy },
      tickIntervalMs: 5_000,
      onBug: (error) => bugs.push(error),
    },
    stored,
  );
  await scheduler.start("boot-1", clock.now());
  const look = async (count = gpus) => {
    const at = clock.now();
    await scheduler.observe({
      ok: true,
      startedAt: at,
      finishedAt: at,
      reading: reading(count),
    });
  };
  if (gpus > 0) await look();
  return { scheduler, clock, bugs, look };
}
