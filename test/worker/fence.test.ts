/** A run that may start elsewhere: when its holder does not begin it, and how it ends it. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { uptimeMark, uptimeMs } from "../../src/platform/uptime.ts";
import { signalAll } from "../../src/worker/cages.ts";
import { isFencedOff } from "../../src/worker/fence.ts";
import { type Exit, type Order, readIn, writeIn } from "../../src/worker/folder.ts";
import { isAlive, type ProcessName, ProcessTable } from "../../src/worker/processes.ts";
import { until } from "./site.ts";

const HOLDER = new URL("../../src/worker/holder.ts", import.meta.url).pathname;
const dir = mkdtempSync(join(tmpdir(), "gpuo-fence-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const FENCE = { file: join(dir, "heard.json"), withinMs: 60_000, signal: "TERM", graceMs: 120_000 };
const heard = (text: string) => writeFileSync(FENCE.file, text);

test("a run does not begin unless a heartbeat was answered lately, and in this boot of the host", () => {
  rmSync(FENCE.file, { force: true });
  expect(isFencedOff(FENCE)).toBe(true);
  heard(uptimeMark(uptimeMs()));
  expect(isFencedOff(FENCE)).toBe(false);
  heard(uptimeMark(uptimeMs() - FENCE.withinMs));
  expect(isFencedOff(FENCE)).toBe(true);
  heard(JSON.stringify({ bootId: "another", uptimeMs: uptimeMs() }));
  expect(isFencedOff(FENCE)).toBe(true);
  heard(uptimeMark(uptimeMs() + 60_000));
  expect(isFencedOff(FENCE)).toBe(true);
  heard("{");
  expect(isFencedOff(FENCE)).toBe(true);
});

function begin(name: string): string {
  const folder = join(dir, name);
  const run = `${name}-${process.pid}`;
  mkdirSync(folder);
  const order: Order = {
    run,
    books: "books",
    epoch: 1,
    bootId: "",
    orderedAt: Date.now(),
    argv: ["/bin/sh", "-c", "trap '' TERM; while true; do sleep 1; done"],
    env: { GPU_ORCHESTRATOR_RUN: run, PATH: process.env.PATH ?? "" },
    cwd: folder,
    logs: folder,
    maxLogBytes: 1_000,
    maxLogFiles: 1,
    enter: [],
    leave: [],
    cage: { kind: "session", groups: [], limits: [] },
    graceMs: FENCE.graceMs,
    port: null,
    probes: { readiness: null, liveness: null, host: "", model: null },
    fence: FENCE,
  };
  writeIn(folder, "order", order);
  const holder = spawn(process.execPath, [HOLDER, folder], { stdio: "ignore" });
  onTestFinished(() => {
    holder.kill("SIGKILL");
    signalAll(new ProcessTable().family(null, run), "SIGKILL");
  });
  return folder;
}

test("a host that slept through the deadline and the grace leaves a run no other grace", async () => {
  heard(uptimeMark(uptimeMs()));
  const folder = begin("slept");
  await until("it runs", () => readIn(folder, "child") !== null);
  heard(uptimeMark(uptimeMs() - FENCE.withinMs - FENCE.graceMs));
  await until("it is over", () => readIn(folder, "exit") !== null);
  expect(readIn<Exit>(folder, "exit")).toMatchObject({ signal: "SIGKILL" });
  expect(readIn(folder, "fenced")).not.toBeNull();
});

test("a run whose folder is gone is ended all the same, and its holder leaves", async () => {
  heard(uptimeMark(uptimeMs()));
  const folder = begin("gone");
  await until("it runs", () => readIn(folder, "child") !== null);
  const [child, holder] = [readIn<ProcessName>(folder, "child"), readIn<ProcessName>(folder, "holder")];
  rmSync(folder, { recursive: true });
  heard(uptimeMark(uptimeMs() - FENCE.withinMs - FENCE.graceMs));
  await until("both are gone", () => !isAlive(child as ProcessName) && !isAlive(holder as ProcessName));
});
