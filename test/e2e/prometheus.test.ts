import { type ChildProcess, spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, expect, test } from "vitest";
import { isInstalled } from "../metrics/scrape.ts";
import { eventually, isBuilt, startDaemon, temporaryFolder } from "./daemon.ts";

const START_MS = 15_000;
const IN_MEMORY = 'storage:\n  path: ":memory:"\n';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A Prometheus of its own: its own folder, a free port on loopback, and an end. */
class TestPrometheus {
  readonly #url: string;
  private constructor(url: string) {
    this.#url = url;
  }

  static async scraping(target: string): Promise<TestPrometheus> {
    const folder = temporaryFolder();
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, "prometheus.yml");
    const jobs = `scrape_configs:\n  - job_name: gpus\n    static_configs:\n      - targets: ["${target}"]\n`;
    writeFileSync(file, `global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n${jobs}`);
    const args = [`--config.file=${file}`, `--storage.tsdb.path=${join(folder, "data")}`, "--log.format=json"];
    const child = spawn("prometheus", [...args, "--web.listen-address=127.0.0.1:0"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    cleanups.push(() => ended(child));
    return new TestPrometheus(await addressOf(child));
  }

  /** The value of an expression that gives one series; `null` while it gives none. */
  async value(expression: string): Promise<number | null> {
    const results = await this.query(expression);
    return results.length === 0 ? null : Number(results[0]?.value[1]);
  }

  async query(expression: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> {
    const answer = await fetch(`${this.#url}/api/v1/query?query=${encodeURIComponent(expression)}`);
    const body = (await answer.json()) as {
      data?: { result: { metric: Record<string, string>; value: [number, string] }[] };
    };
    return body.data?.result ?? [];
  }

  /** Why the last scrape failed; the empty text when it did not. */
  async scrapeError(): Promise<string | undefined> {
    const answer = await fetch(`${this.#url}/api/v1/targets`);
    const body = (await answer.json()) as { data: { activeTargets: { lastError: string }[] } };
    return body.data.activeTargets[0]?.lastError;
  }
}

function addressOf(child: ChildProcess): Promise<string> {
  const log: string[] = [];
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`prometheus ${why}:\n${log.slice(-20).join("\n")}`));
    const timer = setTimeout(() => fail(`not ready after ${START_MS} ms`), START_MS);
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`exited with ${code}`));
    if (child.stderr === null) return;
    let address: string | undefined;
    createInterface({ input: child.stderr }).on("line", (line) => {
      log.push(line);
      address ??= /"address":"(127\.0\.0\.1:[1-9]\d*)"/.exec(line)?.[1];
      if (address === undefined || !line.includes("ready to receive web requests")) return;
      clearTimeout(timer);
      resolve(`http://${address}`);
    });
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

test.skipIf(!isBuilt || !isInstalled("prometheus"))(
  "a real Prometheus scrapes the daemon and sees its GPUs and an allocation (needs the built program and prometheus)",
  async () => {
    const daemon = await startDaemon({ simulate: "h100x8", config: IN_MEMORY });
    cleanups.push(
      () => daemon.removeFolder(),
      () => daemon.end("SIGKILL"),
    );
    const prometheus = await TestPrometheus.scraping(new URL(daemon.url).host);
    const becomes = (expression: string, wanted: number) =>
      eventually(
        () => prometheus.value(expression),
        (value) => value === wanted,
        20_000,
      );

    await becomes("up", 1);
    await becomes("gpu_orchestrator_gpus_total", 8);
    await becomes("gpu_orchestrator_gpus_available", 8);
    await becomes("count(gpu_orchestrator_gpu_temperature_celsius)", 8);
    await becomes("gpu_orchestrator_allocations_active", 0);

    const { status, body } = await daemon.allocate({ service_name: "trainer", required_gpus: 3 });
    expect(status).toBe(200);
    await becomes("gpu_orchestrator_allocations_active", 1);
    await becomes("gpu_allocator_gpus_allocated_total", 3);
    await becomes("gpu_orchestrator_gpus_available", 5);
    await becomes('gpu_orchestrator_allocations_total{service="trainer",status="allocated"}', 1);
    await becomes('gpu_scheduler_scheduled_total{status="immediate"}', 1);
    await becomes('sum(gpu_orchestrator_http_requests_total{endpoint="/gpu/allocate",method="POST",status="200"})', 1);
    const leased = await prometheus.query('gpu_orchestrator_gpu_state{state="leased"} == 1');
    expect(leased.map(({ metric }) => Number(metric.gpu_id)).sort()).toEqual(body.gpu_ids);
    expect(leased.map(({ metric }) => metric.gpu_uuid).sort()).toEqual([...body.gpu_uuids].sort());

    await daemon.release(body.id);
    await becomes("gpu_orchestrator_allocations_active", 0);
    await becomes('gpu_orchestrator_allocations_total{service="trainer",status="released"}', 1);
    expect(await prometheus.scrapeError()).toBe("");
  },
);

test.skipIf(!isBuilt)("metrics_enabled: false takes the page away (needs the built program)", async () => {
  const daemon = await startDaemon({ config: `${IN_MEMORY}monitoring:\n  metrics_enabled: false\n` });
  cleanups.push(
    () => daemon.removeFolder(),
    () => daemon.end("SIGKILL"),
  );
  expect((await daemon.call("GET", "/metrics")).status).toBe(404);
  expect((await daemon.call("GET", "/healthz")).status).toBe(200);
});
