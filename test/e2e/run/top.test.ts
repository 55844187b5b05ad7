/** `gpuo top` on a real terminal: Python's pty, in the tests only. */
import { spawnSync } from "node:child_process";
import { readlinkSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isBuilt, startDaemon, type TestDaemon } from "../daemon.ts";
import { runProgram } from "../program.ts";
import { endOf, hasPython, type Job, recordOf, startJob, until } from "./job.ts";

const DOWN = "\x1b[B";
const CTRL_C = "\x03";
const GIVEN_BACK = "\x1b[?7h\x1b[?25h\x1b[?1049l";

describe.skipIf(!isBuilt || !hasPython)("gpuo top (needs the built program and python3)", () => {
  let daemon: TestDaemon;

  beforeEach(async () => {
    daemon = await startDaemon({ simulate: "h100x2" });
  });

  afterEach(async () => {
    await daemon.end();
    daemon.removeFolder();
  });

  async function started(env: Record<string, string> = {}): Promise<Job> {
    const job = startJob(daemon, ["top"], { columns: 100, env });
    await job.writes("q quit");
    return job;
  }

  /** What has been shown since. */
  const since = (job: Job, from: number) => job.output().slice(from);
  const showing = (job: Job, from: number, words: string) =>
    until(
      () => since(job, from).includes(words),
      () => `${words}, but only: ${since(job, from)}`,
    );

  test("shows a lease and a queue as they come, and gives the terminal back at the end", async () => {
    const job = await started();
    const { id } = (await daemon.allocate({ service_name: "held", required_gpus: 2 })).body;
    await job.writes(id);
    const waiting = (await daemon.allocate({ service_name: "waiter" })).body;
    await job.writes(waiting.id);
    job.keys("q");
    expect(await job.ended).toBe(0);
    expect(job.output().trimEnd().endsWith(GIVEN_BACK)).toBe(true);
  });

  test("releases a lease and cancels a request only after a yes", async () => {
    const { id } = (await daemon.allocate({ service_name: "held", required_gpus: 2 })).body;
    const waiting = (await daemon.allocate({ service_name: "waiter" })).body;
    const job = await started();
    job.keys(`${DOWN}${DOWN}r`);
    await job.writes(`release ${id} of held? y/n`);
    let from = job.output().length;
    job.keys("n");
    await showing(job, from, "q quit");
    expect((await recordOf(daemon, id)).status).toBe("leased");
    job.keys(`${DOWN}c`);
    await job.writes(`cancel ${waiting.id} of waiter? y/n`);
    job.keys("y");
    expect(await endOf(daemon, waiting.id)).toBe("cancelled");
    from = job.output().length;
    job.keys("r");
    await showing(job, from, "y/n");
    job.keys("y");
    expect(await endOf(daemon, id)).toBe("released");
    job.keys("q");
    expect(await job.ended).toBe(0);
  });

  test("cordons a GPU for a reason, and not without one", async () => {
    const job = await started();
    job.keys("d\r");
    await job.writes("not without a reason");
    job.keys("dloud fan\r");
    await job.writes("cordon GPU 0: done");
    const { gpus } = (await daemon.call("GET", "/gpu/list")).body;
    expect(gpus[0].cordon.reason).toBe("loud fan");
    job.keys(CTRL_C);
    expect(await job.ended).toBe(0);
  });

  test("shows only what a filter lets through, and sorts", async () => {
    await daemon.allocate({ service_name: "alpha" });
    await daemon.allocate({ service_name: "beta" });
    const job = await started();
    const from = job.output().length;
    job.keys("/beta\rs");
    await showing(job, from, 'sorted service, with "beta"');
    const last = job.output().split("\x1b[H").at(-1) ?? "";
    expect([last.includes("beta"), last.includes("alpha")]).toEqual([true, false]);
    job.keys("q");
    await job.ended;
  });

  test("fits the terminal after it was made smaller", async () => {
    await daemon.allocate({ service_name: "held" });
    const job = await started();
    const tty = readlinkSync(`/proc/${job.pid()}/fd/0`);
    const from = job.output().length;
    spawnSync("stty", ["-F", tty, "cols", "44", "rows", "8"]);
    await showing(job, from, "\x1b[H");
    await new Promise((resolve) => setTimeout(resolve, 300));
    const frame = job.output().split("\x1b[H").at(-1) ?? "";
    const lines = stripVTControlCharacters(frame)
      .split("\n")
      .map((line) => line.trimEnd());
    expect(lines.length).toBeLessThanOrEqual(8);
    for (const line of lines) expect([...line].length, line).toBeLessThanOrEqual(44);
    job.keys("q");
    await job.ended;
  });

  test("shows what others wrote without their control characters, and no colours with NO_COLOR", async () => {
    await daemon.call("POST", "/gpu/gpus/0/cordon", { reason: "fan \x1b[2J\x1b]0;owned\x07 \u202e" });
    const job = await started({ NO_COLOR: "1" });
    expect(job.output()).toContain("\\u{1b}");
    for (const raw of ["\x1b[2J", "\x1b]", "\x07", "\u202e", "\x1b[3"]) expect(job.output()).not.toContain(raw);
    process.kill(job.pid(), "SIGTERM");
    expect(await job.ended).toBe(0);
    expect(job.output()).toContain(GIVEN_BACK);
  });

  test("without a terminal prints all three once, without escapes", async () => {
    const { id } = (await daemon.allocate({ service_name: "held", required_gpus: 2 })).body;
    const env = { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder };
    const { end, stdout } = await runProgram(["top"], { cwd: daemon.folder, env });
    expect([end, stdout.includes(id), stdout.includes("\x1b")]).toEqual([0, true, false]);
    expect(stdout).toContain("no waiting");
  });

  test("says that what is shown is old while the daemon is down", async () => {
    const job = await started();
    await daemon.end("SIGKILL");
    await job.writes("what is shown is old");
    job.keys("q");
    expect(await job.ended).toBe(0);
  });
});
