import type { AllocateAsk } from "../../src/core/decisions/commands.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import type { HostReading } from "../../src/core/model/reading.ts";
import { type Clock, ManualClock } from "../../src/platform/clock.ts";
import { sortableIds } from "../../src/platform/ids.ts";
import type { Store, Turn } from "../../src/ports/store.ts";
import { Scheduler } from "../../src/scheduler/scheduler.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { hostReading } from "../fixtures/readings.ts";
import { ASK, DEFAULT_POLICY, h100 } from "../simulation/simulated-host.ts";

export function ask(over: Partial<AllocateAsk> = {}): AllocateAsk {
  return { ...ASK, ...over };
}

/** What a probe of a host with `gpus` idle GPUs brings. */
export function reading(gpus: number): HostReading {
  return hostReading(Array.from({ length: gpus }, (_, index) => h100(`GPU-${index}`, { index })));
}

/** Lets everything happen that can happen without time passing. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** A store whose disk takes as long as the test likes. */
export class SlowStore extends MemoryStore {
  #turns: Promise<void> = Promise.resolve();

  /** Holds back all commits until the function that it returns is called. */
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turns = promise;
    return resolve;
  }

  override async commit(turn: Turn): Promise<void> {
    await this.#turns;
    await super.commit(turn);
  }
}

export interface Running<C extends Clock = ManualClock> {
  readonly scheduler: Scheduler;
  readonly clock: C;
  readonly bugs: unknown[];
  look(gpus?: number): Promise<void>;
}

/** A scheduler over `store`, started, that has seen `gpus` idle GPUs. */
export async function startScheduler<C extends Clock = ManualClock>(
  store: Store,
  {
    gpus = 1,
    policy = {},
    clock = new ManualClock() as Clock as C,
    bootId = "boot-1",
    wallAheadMs = () => 0,
  }: { gpus?: number; policy?: Partial<Policy>; clock?: C; bootId?: string; wallAheadMs?: () => number } = {},
): Promise<Running<C>> {
  const bugs: unknown[] = [];
  const stored = store.load();
  const scheduler = new Scheduler(
    {
      store,
      clock,
      newId: sortableIds(),
      policy: { ...DEFAULT_POLICY, ...policy },
      tickIntervalMs: 5_000,
      wallAheadMs,
      onBug: (error) => bugs.push(error),
    },
    stored,
  );
  await scheduler.start(bootId, clock.now());
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
