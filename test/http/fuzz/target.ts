/** A daemon with everything switched on, work too, and what must hold of it after whatever it was asked. */
import { expect } from "vitest";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import type { Endpoint } from "../../../src/http/exchange/endpoint.ts";
import { ManualClock } from "../../../src/platform/clock.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { checkCandidates, durableText } from "../../simulation/whole-checks.ts";
import { type Ask, type Given, type Reply, startDaemon } from "../daemon.ts";
import { Described } from "../described.ts";
import { idleWork, NO_METRICS } from "../idle-work.ts";

/** An answer that is not there by then waits for time to pass. */
const HELD_MS = 100;
/** No request is held longer. */
const LONGEST_HOLD_MS = 61_000;
const LATEST = 8;

export class Target {
  readonly daemon: Awaited<ReturnType<typeof startDaemon>>;
  readonly document: Described;
  /** The calls of running work, which the document does not have. */
  readonly work: readonly Endpoint[];
  readonly #clock: ManualClock;
  /** Allocations that there are or were. */
  readonly #ids = new Set<string>();

  constructor(daemon: Target["daemon"], document: Described, work: readonly Endpoint[], clock: ManualClock) {
    this.daemon = daemon;
    this.document = document;
    this.work = work;
    this.#clock = clock;
  }

  async ask(method: string, path: string, ask: Ask = {}): Promise<Reply> {
    const reply = this.daemon.call(method, path, ask);
    for (;;) {
      const soon = await Promise.race([reply, new Promise<null>((resolve) => setTimeout(resolve, HELD_MS, null))]);
      if (soon !== null) return soon;
      await this.pass(LONGEST_HOLD_MS);
    }
  }

  /** Lets time pass, with a reading at its end. */
  async pass(ms: number): Promise<void> {
    this.#clock.advance(ms);
    await this.daemon.clock.advance(ms);
    await this.daemon.see([gpuReading(0), gpuReading(1)]);
  }

  /** Ids of whatever kind: the latest allocations, ended ones too, and the GPUs. */
  ids(): readonly string[] {
    const { allocations, gpus } = this.daemon.scheduler.state;
    for (const { request } of allocations.values()) this.#ids.add(request.id);
    return [...[...this.#ids].slice(-LATEST), ...[...gpus.values()].map(({ uuid }) => uuid), "0", "1"];
  }

  /** No bug was met, and no GPU is leased twice. */
  expectSound(): void {
    expect(this.daemon.logged.filter(({ level }) => level === "error")).toEqual([]);
    const { allocations, gpus } = this.daemon.scheduler.state;
    const whole = new Set<string>();
    const sharedMib = new Map<string, number>();
    for (const one of allocations.values()) {
      if (one.status === "queued") continue;
      for (const { uuid } of one.lease.gpus) {
        const mib = one.lease.sharedMib ?? gpus.get(uuid)?.memoryTotalMib ?? 0;
        sharedMib.set(uuid, (sharedMib.get(uuid) ?? 0) + mib);
        if (one.lease.sharedMib !== null) continue;
        expect(whole.has(uuid), uuid).toBe(false);
        whole.add(uuid);
      }
    }
    for (const [uuid, mib] of sharedMib) expect(mib).toBeLessThanOrEqual(gpus.get(uuid)?.memoryTotalMib ?? mib);
  }

  /** The journal folds to the state, whose indexes are what a full look gives. */
  expectBooksIntact(): void {
    this.expectSound();
    const { store, scheduler } = this.daemon;
    const folded = store.turns.flatMap(({ events }) => events).reduce(evolve, emptyHost(scheduler.state.policy));
    expect(durableText(folded)).toBe(durableText(scheduler.state));
    checkCandidates(scheduler.state);
  }
}

export async function startTarget(given: Given = {}): Promise<Target> {
  const clock = new ManualClock();
  const work = idleWork(clock);
  const daemon = await startDaemon({ metrics: NO_METRICS, work, policy: { maxQueueSize: 20 }, ...given });
  const { json } = await daemon.call("GET", "/openapi.json");
  return new Target(daemon, new Described(json), work.endpoints, clock);
}
