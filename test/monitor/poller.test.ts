import { expect, onTestFinished, test, vi } from "vitest";
import type { Observation } from "../../src/core/model/reading.ts";
import { MAX_BACKOFF_MS, type Poller, type PollerOptions, startPolling } from "../../src/monitor/poller.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import type { GpuSource } from "../../src/ports/gpu-source.ts";
import { sleepyClock } from "../fixtures/fake-host.ts";
import { failed } from "../fixtures/readings.ts";

/** Notes when it is probed; the test says when and how each probe ends. */
class ScriptedSource implements GpuSource {
  readonly name = "simulated";
  readonly abandonedTotal = 0;
  readonly stuck = false;
  readonly startedAt: number[] = [];
  readonly #clock: ManualClock;
  #pending: PromiseWithResolvers<Observation>[] = [];

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  get running(): number {
    return this.#pending.length;
  }

  probe(): Promise<Observation> {
    this.startedAt.push(this.#clock.now());
    const pending = Promise.withResolvers<Observation>();
    this.#pending.push(pending);
    return pending.promise;
  }

  async close(): Promise<void> {}

  async end(ok: boolean): Promise<void> {
    const finishedAt = this.#clock.now();
    const startedAt = this.startedAt.at(-1) ?? finishedAt;
    const reading = { simulated: true, driverVersion: null, cudaVersion: null, gpus: [], topology: null, warnings: [] };
    const failure = { kind: "timeout", message: "no answer", exitCode: null } as const;
    this.#pending
      .shift()
      ?.resolve(ok ? { ok, startedAt, finishedAt, reading } : { ok, startedAt, finishedAt, failure });
    await settled();
  }

  async reject(): Promise<void> {
    this.#pending.shift()?.reject(new Error("broken promise"));
    await settled();
  }
}

/** Lets what waits for promises run. */
async function settled(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

/** Counts the timers that are pending. */
class CountingClock extends ManualClock {
  pending = 0;
  override after(delayMs: number, callback: () => void): () => void {
    this.pending++;
    let open = true;
    const close = () => {
      if (open) this.pending--;
      open = false;
    };
    const cancel = super.after(delayMs, () => {
      close();
      callback();
    });
    return () => {
      close();
      cancel();
    };
  }
}

function setUp(options: Partial<PollerOptions> = {}) {
  const clock = new CountingClock(0);
  const source = new ScriptedSource(clock);
  const seen: Observation[] = [];
  const poller: Poller = startPolling({
    source,
    clock,
    refreshIntervalMs: 5_000,
    onObservation: (observation) => seen.push(observation),
    ...options,
  });
  return { clock, source, seen, poller };
}

test("it probes at once and then every interval, counted from start to start", async () => {
  const { clock, source, seen } = setUp();
  expect(source.startedAt).toEqual([0]);
  clock.advance(1_200);
  await source.end(true);
  clock.advance(3_799);
  expect(source.startedAt).toEqual([0]);
  clock.advance(1);
  expect(source.startedAt).toEqual([0, 5_000]);
  await source.end(true);
  clock.advance(5_000);
  expect(source.startedAt).toEqual([0, 5_000, 10_000]);
  expect(seen.map(({ ok }) => ok)).toEqual([true, true]);
});

test("a probe that outlasts the interval is never joined by another, and an interval's pause follows it", async () => {
  const { clock, source } = setUp();
  clock.advance(12_000);
  expect(source.running).toBe(1);
  await source.end(true);
  clock.advance(4_999);
  expect(source.startedAt).toEqual([0]);
  clock.advance(1);
  expect(source.startedAt).toEqual([0, 17_000]);
});

test("failures are told, and double the pause from the interval to a minute; a success ends that", async () => {
  const { clock, source, seen } = setUp();
  const pauses: number[] = [];
  for (let failures = 0; failures < 7; failures++) {
    clock.advance(2_000);
    await source.end(false);
    const failedAt = clock.now();
    while (source.running === 0) clock.advance(500);
    pauses.push(clock.now() - failedAt);
  }
  expect(pauses).toEqual([5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
  expect(seen.every(({ ok }) => !ok)).toBe(true);

  await source.end(true);
  clock.advance(5_000);
  expect(source.running).toBe(1);
  await source.end(false);
  clock.advance(5_000);
  expect(source.running).toBe(1);
});

test("with an interval of minutes what has healed is still seen within one", async () => {
  const { clock, source } = setUp({ refreshIntervalMs: 300_000 });
  await source.end(false);
  clock.advance(MAX_BACKOFF_MS);
  expect(source.startedAt).toHaveLength(2);
});

test("a reading that is asked for begins at once when none is under way, and the next a whole interval later", async () => {
  const { clock, source, poller } = setUp();
  await source.end(true);
  clock.advance(2_000);
  poller.probeSoon();
  expect(source.startedAt).toEqual([0, 2_000]);
  await source.end(true);
  clock.advance(4_999);
  expect(source.startedAt).toHaveLength(2);
  clock.advance(1);
  expect(source.startedAt).toEqual([0, 2_000, 7_000]);
});

test("one that is asked for during a probe begins after it, once for all who asked", async () => {
  const { clock, source, poller } = setUp();
  clock.advance(1_000);
  for (let i = 0; i < 1_000; i++) poller.probeSoon();
  expect(source.startedAt).toEqual([0]);
  clock.advance(500);
  await source.end(true);
  expect(source.startedAt).toEqual([0, 1_500]);
  await source.end(true);
  expect(source.startedAt).toHaveLength(2);
});

test("one that is asked for while probes fail does not wait for the pause to end", async () => {
  const { clock, source, poller } = setUp();
  await source.end(false);
  clock.advance(100);
  poller.probeSoon();
  expect(source.startedAt).toEqual([0, 100]);
  expect(clock.pending).toBe(0);
});

test("one that is asked for while an observation is told of begins afterwards", async () => {
  const { clock, source } = (() => {
    let asked = false;
    const setup = setUp({
      onObservation: () => {
        if (!asked) setup.poller.probeSoon();
        asked = true;
      },
    });
    return setup;
  })();
  await source.end(true);
  expect(source.startedAt).toEqual([0, 0]);
  await source.end(true);
  clock.advance(5_000);
  expect(source.startedAt).toEqual([0, 0, 5_000]);
});

test("a new interval counts from the last start", async () => {
  const { clock, source, poller } = setUp();
  await source.end(true);
  clock.advance(1_000);
  poller.setInterval(2_000);
  clock.advance(1_000);
  expect(source.startedAt).toEqual([0, 2_000]);
  poller.setInterval(10_000);
  await source.end(true);
  clock.advance(9_999);
  expect(source.startedAt).toHaveLength(2);
  clock.advance(1);
  expect(source.startedAt).toHaveLength(3);
});

test("an interval of nothing is no busy loop", async () => {
  const { clock, source } = setUp({ refreshIntervalMs: 0 });
  for (let i = 0; i < 100; i++) {
    clock.advance(10);
    if (source.running > 0) await source.end(true);
  }
  expect(source.startedAt.length).toBeLessThanOrEqual(11);
});

test("after the stop no timer is left, no probe begins and nothing is told, not even of the one under way", async () => {
  const { clock, source, seen, poller } = setUp();
  poller.probeSoon();
  await poller.stop();
  await source.end(true);
  poller.probeSoon();
  poller.setInterval(1_000);
  clock.advance(600_000);
  expect(source.startedAt).toEqual([0]);
  expect(seen).toEqual([]);
  expect(clock.pending).toBe(0);

  const idle = setUp();
  await idle.source.end(true);
  expect(idle.clock.pending).toBe(1);
  await idle.poller.stop();
  expect(idle.clock.pending).toBe(0);
});

test("an observer that throws, or a source that rejects, is told of and does not end the polling", async () => {
  const errors: string[] = [];
  const { clock, source } = setUp({
    onObservation: () => {
      throw new Error("observer");
    },
    onError: (error) => errors.push(error instanceof Error ? error.message : "?"),
  });
  await source.end(true);
  clock.advance(5_000);
  expect(source.startedAt).toEqual([0, 5_000]);
  await source.reject();
  clock.advance(5_000);
  expect(source.startedAt).toHaveLength(3);
  expect(errors).toEqual(["observer", "broken promise"]);
});

test("after a sleep of the host the next probe comes at once, whatever pause was under way", async () => {
  const { clock, sleep } = sleepyClock();
  let probes = 0;
  const source: GpuSource = {
    name: "nvidia-smi",
    abandonedTotal: 0,
    stuck: false,
    async probe() {
      probes++;
      return failed(clock.now());
    },
    async close() {},
  };
  const poller = startPolling({ source, clock, refreshIntervalMs: 30_000, onObservation: () => undefined });
  onTestFinished(() => poller.stop());
  await vi.waitUntil(() => probes === 1);
  await settled();
  sleep(8 * 3_600_000);
  await vi.waitUntil(() => probes === 2, { timeout: 5_000 });
});
