/** A real Prometheus that scrapes what a test has started. */
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { onTestFinished } from "vitest";
import { temporaryFolder } from "./daemon.ts";

const START_MS = 15_000;

/** A Prometheus of its own: its own folder, a free port on loopback, and an end. */
export class TestPrometheus {
  readonly url: string;
  private constructor(url: string) {
    this.url = url;
  }

  static async scraping(target: string, job = "gpus"): Promise<TestPrometheus> {
    const jobs = `scrape_configs:\n  - job_name: ${job}\n    static_configs:\n      - targets: ["${target}"]\n`;
    return TestPrometheus.of({
      "prometheus.yml": `global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n${jobs}`,
    });
  }

  /** With these files, by their names in its folder; `prometheus.yml` is its configuration. */
  static async of(files: Readonly<Record<string, string>>): Promise<TestPrometheus> {
    const folder = temporaryFolder();
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const file = join(folder, "prometheus.yml");
    const args = [`--config.file=${file}`, `--storage.tsdb.path=${join(folder, "data")}`, "--log.format=json"];
    const child = spawn("prometheus", [...args, "--web.listen-address=127.0.0.1:0"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    onTestFinished(() => ended(child));
    return new TestPrometheus(`http://${await addressOf(child, "ready to receive web requests")}`);
  }

  /** The value of an expression that gives one series; `null` while it gives none. */
  async value(expression: string): Promise<number | null> {
    const results = await this.query(expression);
    return results.length === 0 ? null : Number(results[0]?.value[1]);
  }

  async query(expression: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> {
    const answer = await fetch(`${this.url}/api/v1/query?query=${encodeURIComponent(expression)}`);
    const body = (await answer.json()) as {
      data?: { result: { metric: Record<string, string>; value: [number, string] }[] };
    };
    return body.data?.result ?? [];
  }

  /** What its API answers there, below `data`. */
  async ask<T>(path: string): Promise<T> {
    const answer = await fetch(`${this.url}/api/v1/${path}`);
    return ((await answer.json()) as { data: T }).data;
  }

  /** Why the last scrape failed; the empty text when it did not. */
  async scrapeError(): Promise<string | undefined> {
    const answer = await fetch(`${this.url}/api/v1/targets`);
    const body = (await answer.json()) as { data: { activeTargets: { lastError: string }[] } };
    return body.data.activeTargets[0]?.lastError;
  }
}

/** The address that a program of Prometheus' family logs as JSON, once it has said `ready`. */
export function addressOf(child: ChildProcess, ready: string): Promise<string> {
  const log: string[] = [];
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`${child.spawnfile} ${why}:\n${log.slice(-20).join("\n")}`));
    const timer = setTimeout(() => fail(`not ready after ${START_MS} ms`), START_MS);
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`exited with ${code}`));
    if (child.stderr === null) return;
    let address: string | undefined;
    createInterface({ input: child.stderr }).on("line", (line) => {
      log.push(line);
      address ??= /"address":"(127\.0\.0\.1:[1-9]\d*)"/.exec(line)?.[1];
      if (address === undefined || !line.includes(ready)) return;
      clearTimeout(timer);
      resolve(address);
    });
  });
}

export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}
