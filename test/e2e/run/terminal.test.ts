/** `gpuo run` on a real terminal: Python's pty, in the tests only. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBuilt, startDaemon, type TestDaemon } from "../daemon.ts";
import { endOf, gone, hasPython, isAlive, type JobOptions, recordOf, startJob, until, withStay } from "./job.ts";

const CTRL_C = "\x03";
const CTRL_BACKSLASH = "\x1c";
const CTRL_Z = "\x1a";

describe.skipIf(!isBuilt || !hasPython).concurrent("gpuo run on a terminal (needs python3)", () => {
  let daemon: TestDaemon;
  let busy: TestDaemon;

  beforeAll(async () => {
    daemon = await startDaemon();
    busy = await startDaemon({ simulate: "h100x1" });
    await busy.allocate({ service_name: "holder", max_duration: "1h" });
  });

  afterAll(async () => {
    for (const one of [daemon, busy]) {
      await one.end();
      one.removeFolder();
    }
  });

  async function running(script: string, flags: readonly string[] = [], options: JobOptions = { columns: 80 }) {
    const job = startJob(daemon, ["run", ...flags, "--", "sh", "-c", withStay(script)], options);
    await job.writes(/pid=\d+=/);
    const [, id = "", pid = ""] = /id=([^=]+)= pid=(\d+)=/.exec(job.output()) ?? [];
    return { job, id, pid: Number(pid) };
  }

  test("the command has the terminal", async () => {
    const { job } = await running("test -t 0 && test -t 1 && test -t 2 && read line && echo got $line && exit 6");
    job.keys("typed\r");
    expect(await job.ended).toBe(6);
    expect(job.output()).toContain("got typed");
  });

  test("Ctrl-C while queued cancels the request", async () => {
    const job = startJob(busy, ["run", "--name", "impatient", "--", "true"], { columns: 80 });
    await job.writes("queued 1 of");
    job.keys(CTRL_C);
    expect(await job.ended).toBe(130);
    const { allocations } = (await busy.call("GET", "/gpu/allocations?service_name=impatient")).body;
    expect(allocations.map(({ end_reason }: { end_reason: string }) => end_reason)).toEqual(["cancelled"]);
  });

  test.each([40, 200])("the line that says what is waited for is rewritten, and fits %i columns", async (columns) => {
    const job = startJob(busy, ["run", "--", "true"], { columns });
    await job.writes("queued");
    await until(
      () => /queued[^\r]*$/.test(job.output()),
      () => job.output(),
    );
    const lines = job
      .output()
      .split("\r\x1b[K")
      .filter((line) => line.includes("queued"));
    for (const line of lines) expect([...line].length).toBeLessThan(columns);
    expect(lines.at(-1)).not.toContain("\n");
    job.keys(CTRL_C);
    expect(await job.ended).toBe(130);
  });

  test("a dumb terminal gets lines without escapes", async () => {
    const job = startJob(busy, ["run", "--", "true"], { columns: 80, env: { TERM: "dumb" } });
    await job.writes(/gpuo: queued .*\r\n/);
    expect(job.output()).not.toContain("\x1b");
    job.keys(CTRL_C);
    expect(await job.ended).toBe(130);
  });

  test("Ctrl-C while it runs reaches the command once, by the kernel", async () => {
    const { job, id } = await running("trap 'echo caught' INT\nwhile :; do sleep 0.05; done");
    job.keys(CTRL_C);
    await job.writes("caught");
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(job.output().match(/caught/g)).toHaveLength(1);
    expect((await recordOf(daemon, id)).status).toBe("leased");
    process.kill(job.pid(), "SIGTERM");
    expect(await job.ended).toBe(143);
  });

  test("a command that Ctrl-C ends makes it exit 130", async () => {
    const { job, id } = await running("exec sleep 100");
    job.keys(CTRL_C);
    expect([await job.ended, await endOf(daemon, id)]).toEqual([130, "released"]);
  });

  test("Ctrl-C twice kills a command that ignores the first", async () => {
    const { job, id, pid } = await running("trap '' INT TERM\nwhile :; do sleep 0.05; done");
    job.keys(CTRL_C);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(isAlive(pid)).toBe(true);
    job.keys(CTRL_C);
    expect([await job.ended, await endOf(daemon, id)]).toEqual([137, "released"]);
  });

  test("Ctrl-\\ makes it exit 131", async () => {
    const { job } = await running("exec sleep 100");
    job.keys(CTRL_BACKSLASH);
    expect(await job.ended).toBe(131);
  });

  test("while it is stopped by Ctrl-Z the lease is renewed, and it goes on in the foreground", async () => {
    const job = startJob(daemon, [], { columns: 200, shell: true });
    const program = process.execPath;
    job.keys(
      `PS1='> '; ${program} ${JSON.stringify(new URL("../../../dist/gpu-orchestrator.js", import.meta.url).pathname)} run --ttl 2s -- sh -c 'echo "i"d=$GPU_ORCHESTRATOR_ALLOCATION_ID= pid=$$=; while :; do sleep 0.05; done'\r`,
    );
    await job.writes(/id=\S+= pid=\d+=/);
    const [, id = "", pid = ""] = /id=(\S+)= pid=(\d+)=/.exec(job.output()) ?? [];
    job.keys(CTRL_Z);
    await job.writes("Stopped");
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    expect([(await recordOf(daemon, id)).status, isAlive(Number(pid))]).toEqual(["leased", true]);
    job.keys("fg\r");
    await new Promise((resolve) => setTimeout(resolve, 300));
    job.keys(CTRL_C);
    expect(await endOf(daemon, id)).toBe("released");
    job.keys("exit\r");
    await job.ended;
  });

  test("a terminal that hangs up ends the command, and gives the GPUs back", async () => {
    const { job, id, pid } = await running("exec sleep 100");
    job.process.stdin?.end();
    await gone(pid);
    // By the keeper, or by the daemon where it sees first that nothing is left.
    expect(["released", "process-gone"]).toContain(await endOf(daemon, id));
  });

  test("kill -9 of the job's whole process group leaves nothing running", async () => {
    const { job, id, pid } = await running("setsid sleep 100 & wait");
    process.kill(-job.pid(), "SIGKILL");
    await gone(pid);
    // By the keeper, or by the daemon where it sees first that nothing is left.
    expect(["released", "process-gone"]).toContain(await endOf(daemon, id));
  });

  test.each([
    ["with", {}, true],
    ["without", { NO_COLOR: "1" }, false],
  ])("status is shown %s colours on a terminal, as NO_COLOR says", async (_how, env, colored) => {
    const job = startJob(daemon, ["status"], { columns: 100, env });
    expect(await job.ended).toBe(0);
    expect(job.output().includes("\x1b[32mfree")).toBe(colored);
  });

  test.each([40, 200])("status fits %i columns", async (columns) => {
    const job = startJob(daemon, ["status", "--no-color"], { columns });
    expect(await job.ended).toBe(0);
    for (const line of job.output().split("\r\n")) expect([...line].length).toBeLessThanOrEqual(columns);
  });
});
