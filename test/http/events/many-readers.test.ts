import { fork } from "node:child_process";
import { once } from "node:events";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { Client } from "undici";
import { expect, onTestFinished, test } from "vitest";
import { NO_LIMITS } from "../../../src/http/exchange/limits.ts";
import { createHttpServer } from "../../../src/http/server.ts";
import { steadyClock } from "../../../src/platform/clock.ts";
import { sortableIds } from "../../../src/platform/ids.ts";
import { NO_AUDIT } from "../../../src/ports/audit.ts";
import { NO_KEYS } from "../../../src/ports/keys.ts";
import { NO_KNOWLEDGE } from "../../../src/ports/knowledge.ts";
import { NO_LESSONS } from "../../../src/ports/learned.ts";
import { NO_PAST } from "../../../src/ports/past-decisions.ts";
import { NO_PROCESSES } from "../../../src/ports/processes.ts";
import { GpuHistory } from "../../../src/scheduler/gpu-history.ts";
import { Scheduler } from "../../../src/scheduler/scheduler.ts";
import { gpuReading, seen } from "../../fixtures/readings.ts";
import { DEFAULT_POLICY } from "../../simulation/simulated-host.ts";
import { openForTest } from "../../store/files.ts";
import { START, turn } from "../../store/turns.ts";
import { SETTINGS } from "../daemon.ts";
import type { Given, Task } from "./many-readers.ts";

const READERS = 200;
const KEPT_EVENTS = 2_100;
const LIVE_CYCLES = 150;

/** A daemon on real time, over a file with a history. */
async function daemonWithHistory() {
  const store = openForTest();
  for (let n = 0; n < KEPT_EVENTS; n += 3) {
    const events = [n, n + 1, n + 2].map((i) => ({ type: "gpu-freed", uuid: `GPU-${i}`, at: START }) as const);
    await store.commit(turn({ events }));
  }
  const clock = steadyClock();
  // The one reading is good for as long as the test takes, on however busy a machine.
  const policy = { ...DEFAULT_POLICY, staleAfterMs: 600_000 };
  const parts = { store, clock, newId: sortableIds(), policy, tickIntervalMs: 5_000 };
  const scheduler = new Scheduler(parts, store.load());
  await scheduler.start("boot", clock.now());
  await scheduler.observe(seen([gpuReading(0)], clock.now()));
  const http = createHttpServer({
    scheduler,
    history: new GpuHistory({ store, clock, scheduler }),
    settings: SETTINGS,
    keys: () => [],
    knowledge: NO_KNOWLEDGE,
    lessons: NO_LESSONS,
    pastDecisions: NO_PAST,
    processes: NO_PROCESSES,
    audit: NO_AUDIT,
    keyBook: NO_KEYS,
    limits: () => NO_LIMITS,
    pendingDeliveries: () => 0,
    checkWebhookUrl: () => null,
    webhookTester: () => null,
    metrics: null,
    readiness: () => null,
    version: "0.0.0",
    log: {
      info: () => undefined,
      warn: (facts) => expect.fail(JSON.stringify(facts)),
      error: (facts) => expect.fail(JSON.stringify(facts)),
    },
  });
  const { port } = await http.listen("127.0.0.1", 0);
  const client = new Client(`http://127.0.0.1:${port}`);
  onTestFinished(async () => {
    await client.destroy();
    http.server.closeAllConnections();
    http.server.close();
    await scheduler.stop();
  });
  const call = async (method: "POST" | "DELETE" | "GET", path: string, body: object | null = null) => {
    const headers = { "content-type": "application/json" };
    const answer = await client.request({ method, path, headers, body: body && JSON.stringify(body) });
    expect(answer.statusCode).toBe(200);
    return (await answer.body.json()) as { readonly id: string };
  };
  const cycle = async () => {
    const { id } = await call("POST", "/gpu/allocate", { service_name: "trainer" });
    await call("DELETE", `/gpu/allocations/${id}`);
  };
  return { port, scheduler, cycle, health: () => call("GET", "/healthz") };
}

async function startReaders(task: Task) {
  const child = fork(fileURLToPath(new URL("./many-readers.ts", import.meta.url)), { execArgv: [] });
  onTestFinished(() => void child.kill());
  child.send(task);
  await once(child, "message");
  return async (upTo: number): Promise<Given> => {
    const answered = once(child, "message");
    child.send(upTo);
    return ((await answered) as [Given])[0];
  };
}

test("two hundred read at once: a replay of thousands of events, and what comes, and nobody else waits for them", async () => {
  const daemon = await daemonWithHistory();
  const rssBefore = process.memoryUsage.rss();
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  let slowestMs = 0;
  let calls = 0;
  let isOver = false;
  const others = (async () => {
    for (; !isOver; calls++) {
      const askedAt = performance.now();
      await daemon.health();
      slowestMs = Math.max(slowestMs, performance.now() - askedAt);
    }
  })();
  others.catch(() => undefined);
  const startedAt = performance.now();
  const given = await startReaders({ port: daemon.port, readers: READERS, lastEventId: 0 });
  const history = daemon.scheduler.events.lastSeq;
  expect(await given(history)).toEqual({ events: READERS * history, outOfOrder: 0 });
  const replayMs = performance.now() - startedAt;
  for (let n = 0; n < LIVE_CYCLES; n++) await daemon.cycle();
  const all = daemon.scheduler.events.lastSeq;
  // Where the machine stood still for a while, the daemon has said so too.
  expect(all).toBeGreaterThanOrEqual(history + 3 * LIVE_CYCLES);
  expect(await given(all)).toEqual({ events: READERS * all, outOfOrder: 0 });
  const liveMs = performance.now() - startedAt - replayMs;
  isOver = true;
  await others;
  delay.disable();
  console.info(`${READERS} readers:`, {
    replayMs,
    liveMs,
    slowestMs,
    calls,
    loopP99Ms: delay.percentile(99) / 1e6,
    loopMaxMs: delay.max / 1e6,
    grownMib: (process.memoryUsage.rss() - rssBefore) / 2 ** 20,
  });
  expect(daemon.scheduler.events.readers).toBe(READERS);
  // Others are served all the while, on a machine that has other work too.
  expect(calls).toBeGreaterThan(100);
  expect(slowestMs).toBeLessThan(1_000);
  expect(delay.percentile(99) / 1e6).toBeLessThan(250);
});
