import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Client } from "undici";
import { expect, onTestFinished, test, vi } from "vitest";
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
import { MemoryStore } from "../../fixtures/memory-store.ts";
import { gpuReading, seen } from "../../fixtures/readings.ts";
import { DEFAULT_POLICY } from "../../simulation/simulated-host.ts";
import { SETTINGS } from "../daemon.ts";
import { allocateRequest, HOST } from "../peer.ts";
import type { Go, Task } from "./many-clients.ts";

const WAITERS = 1_000;
const MIB = 2 ** 20;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** A daemon on real time with one GPU, which is taken. */
async function busyDaemon() {
  const clock = steadyClock();
  const store = new MemoryStore({ keepTurns: false });
  const policy = { ...DEFAULT_POLICY, maxQueueSize: WAITERS };
  const parts = { store, clock, newId: sortableIds(), policy, tickIntervalMs: 5_000 };
  const scheduler = new Scheduler(parts, store.load());
  await scheduler.start("boot", clock.now());
  const see = () => scheduler.observe(seen([gpuReading(0)], clock.now()));
  await see();
  const http = createHttpServer({
    scheduler,
    history: new GpuHistory({ store: store.history, clock, scheduler }),
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
    log: { info: () => undefined, warn: () => undefined, error: (facts) => expect.fail(JSON.stringify(facts)) },
  });
  const { port } = await http.listen("127.0.0.1", 0);
  const client = new Client(`http://127.0.0.1:${port}`);
  onTestFinished(async () => {
    await client.destroy();
    http.server.closeAllConnections();
    http.server.close();
    await scheduler.stop();
  });
  const allocate = async () => {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ service_name: "trainer" });
    const answer = await client.request({ method: "POST", path: "/gpu/allocate", headers, body });
    return ((await answer.body.json()) as { id: string }).id;
  };
  return { port, scheduler, server: http.server, see, allocate, held: await allocate() };
}

async function startClients(task: Task): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL("./many-clients.ts", import.meta.url)), { execArgv: [] });
  onTestFinished(() => void child.kill());
  child.send(task);
  await once(child, "message");
  return child;
}

function rssMib(): number {
  collectGarbage();
  return process.memoryUsage.rss() / MIB;
}

/** Sends a thousand requests that wait, and ends the lease that they wait for. */
async function measure(daemon: Awaited<ReturnType<typeof busyDaemon>>, request: string, cascade: boolean) {
  const beforeMib = rssMib();
  let asked = 0;
  daemon.server.on("request", () => asked++);
  const clients = await startClients({ port: daemon.port, requests: Array(WAITERS).fill(request) });
  await vi.waitFor(() => expect(asked).toBe(WAITERS), { timeout: 30_000 });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const grownMib = rssMib() - beforeMib;
  await daemon.see();
  const go: Go = { release: daemon.held, cascade };
  const answered = once(clients, "message");
  clients.send(go);
  const [latenciesMs] = (await answered) as [number[]];
  latenciesMs.sort((a, b) => a - b);
  const percentile = (share: number) => latenciesMs[Math.ceil(WAITERS * share) - 1] as number;
  const figures = { grownMib, p50Ms: percentile(0.5), p99Ms: percentile(0.99), maxMs: percentile(1) };
  console.info(cascade ? "a thousand in turn:" : "a thousand at once:", figures);
  return figures;
}

test("a thousand requests that wait cost little memory, and each has its grant soon after the release before it", async () => {
  const daemon = await busyDaemon();
  const figures = await measure(daemon, allocateRequest({ ttl: "1h" }, "Prefer: wait=60\r\n"), true);
  expect(figures.grownMib).toBeLessThan(100);
  expect(figures.p99Ms).toBeLessThan(100);
});

test("a thousand polls of one allocation hear of its grant together", async () => {
  const daemon = await busyDaemon();
  const id = await daemon.allocate();
  const figures = await measure(daemon, `GET /gpu/allocations/${id}?wait=60s HTTP/1.1\r\n${HOST}\r\n`, false);
  // One turn answers all of them, so this is the time of a thousand answers, on a machine that has other work too.
  expect(figures.p99Ms).toBeLessThan(1_000);
});
