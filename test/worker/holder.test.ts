/** The holder as a program of its own, without a worker. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { uptimeMs } from "../../src/platform/uptime.ts";
import { type Exit, type Order, pathIn, readIn, writeIn } from "../../src/worker/folder.ts";
import { type ProcessName, processOf } from "../../src/worker/processes.ts";
import { until } from "./site.ts";

const HOLDER = join(import.meta.dirname, "../../src/worker/holder.ts");

test("when a run ended is when it did, though it can be written down only later", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-holder-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const order: Order = {
    ...{ run: "run-x", books: "b", epoch: 1, bootId: "boot-1", orderedAt: 0, argv: ["/bin/sleep", "0.2"], env: {} },
    ...{ cwd: "/", logs: folder, maxLogBytes: 1_000, maxLogFiles: 1, enter: [], leave: [], graceMs: 0, port: null },
    cage: { kind: "session", groups: [], limits: [] },
    probes: { readiness: null, liveness: null, host: "", model: null },
  };
  writeIn(folder, "order", order);
  // As on a full disk: it cannot be written as long as this is there.
  mkdirSync(pathIn(folder, "exit"));
  const holder = spawn(process.execPath, [HOLDER, folder], { stdio: "ignore" });
  onTestFinished(() => void holder.kill("SIGKILL"));
  await until("it has begun", () => readIn<ProcessName>(folder, "child") !== null);
  await until("it has ended", () => processOf(readIn<ProcessName>(folder, "child")?.pid ?? 0) === null);
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  const before = uptimeMs() - 1_500;
  rmdirSync(pathIn(folder, "exit"));
  await until("it is written", () => readIn(folder, "exit") !== null);
  expect(readIn<Exit>(folder, "exit")?.atUptimeMs).toBeLessThan(before);
});
