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
  readonly #url: string;
  private constructor(url: string) {
    this.#url = url;
  }

  static async scraping(target: string, job = "gpus"): Promise<TestPrometheus> {
    const folder = temporaryFolder();
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, "prometheus.yml");
    const jobs = `scrape_configs:\n  - job_name: ${job}\n    static_configs:\n      - targets: ["${target}"]\n`;
    writeFileSync(file, `global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n${jobs}`);
    const args = [`--config.file=${file}`, `--storage.tsdb.path=${join(folder, "data")}`, "--log.format=json"];
    const child = spawn("prometheus", [...args, "--web.listen-address=127.0.0.1:0"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    onTestFinished(() => ended(child));
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
