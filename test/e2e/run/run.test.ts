/** `gpuo run` without a terminal, as scripts and services use it. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeCage, removeCage } from "../../../src/cli/run/cage.ts";

import { isBuilt, startDaemon, type TestDaemon } from "../daemon.ts";
import {
  endOf,
  gone,
  hasPython,
  isAlive,
  type JobOptions,
  keeperOf,
  recordOf,
  STAY,
  startJob,
  until,
  withStay,
} from "./job.ts";

const probe = makeCage(`probe-${process.pid}`);
const hasCage = probe !== null;
if (probe !== null) removeCage(probe);

/** Whether the control group of a lease is still there. */
function cageLeft(id: string): boolean {
  return probe !== null && existsSync(join(dirname(probe), `gpuo-${id}`));
}

/** The keeper releases, unless the daemon sees before it that all processes of the lease are gone. */
const GIVEN_BACK = ["released", "process-gone"];

describe.skipIf(!isBuilt).concurrent("gpuo run, without a terminal", () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await startDaemon();
  });

  afterAll(async () => {
    await daemon.end();
    daemon.removeFolder();
  });

  const run = (flags: readonly string[], command: readonly string[], options: JobOptions = {}) =>
    startJob(daemon, ["run", ...flags, "--", ...command], options);
  const sh = (flags: readonly string[], script: string, options: JobOptions = {}) =>
    run(flags, ["sh", "-c", script], options);

  /** Starts a script that says what it is, and waits until it has. */
  async function running(flags: readonly string[], script: string) {
    const job = sh(flags, withStay(script));
    await job.writes(/pid=\d+=/);
    const [, id = ""] = /id=([^=]+)=/.exec(job.output()) ?? [];
    const pidOf = (name: string) => Number(new RegExp(`${name}=(\\d+)=`).exec(job.output())?.[1]);
    return { job, id, pid: pidOf("pid"), pidOf };
  }

  test("ends as its command does, and has given the GPUs back by then", async () => {
    const job = sh(["-g", "2"], `${STAY}; exit 7`);
    expect(await job.ended).toBe(7);
    const [, id = ""] = /id=([^=]+)=/.exec(job.output()) ?? [];
    expect(await recordOf(daemon, id)).toMatchObject({ status: "ended", end_reason: "released", required_gpus: 2 });
  });

  test("ends with 128 and the number of the signal that ended the command", async () => {
    expect(await sh([], "kill -9 $$").ended).toBe(137);
  });

  test("tells what cannot be run before it asks for anything: 127, 126, 125", async () => {
    const flags = ["--name", "never-asked"];
    expect(await run(flags, ["no-such-program"]).ended).toBe(127);
    expect(await run(flags, ["/etc/passwd"]).ended).toBe(126);
    const container = run(flags, ["docker", "run", "--rm", "image"]);
    expect(await container.ended).toBe(125);
    expect(container.errors()).toContain(`docker run --gpus '"device={gpu_uuids}"'`);
    expect(await sh([...flags, "--mem", "much"], "true").ended).toBe(125);
    expect(await sh([...flags, "--no-such-flag"], "true").ended).toBe(125);
    expect((await daemon.call("GET", "/gpu/allocations?service_name=never-asked")).body.allocations).toEqual([]);
  });

  test.each([
    [["--preempt-signal", "FOO"], "no such signal"],
    [["--grace", "-1"], "--grace -1: expected a duration"],
    [["--notify-before", "10m"], "give --max-duration"],
    [["--wait", "soon"], "--wait soon: expected a duration"],
    [["--visible", "name"], "expected uuid or index"],
  ])("%j is refused before anything is asked for", async (flags, words) => {
    const job = run(["--name", "wrongly-asked", ...flags], ["true"]);
    expect([await job.ended, job.errors()]).toEqual([125, expect.stringContaining(words)]);
    expect((await daemon.call("GET", "/gpu/allocations?service_name=wrongly-asked")).body.allocations).toEqual([]);
  });

  test("gives the command its GPUs in its environment and in its arguments", async () => {
    const job = run(["-g", "2"], ["sh", "-c", 'env; echo "args $1 $2"', "sh", "{gpu_uuids}", "-d{gpu_ids}"]);
    expect(await job.ended).toBe(0);
    const variable = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(job.output())?.[1] ?? "";
    const uuids = variable("CUDA_VISIBLE_DEVICES");
    expect(uuids.split(",")).toEqual([expect.stringMatching(/^GPU-/), expect.stringMatching(/^GPU-/)]);
    expect(variable("NVIDIA_VISIBLE_DEVICES")).toBe(uuids);
    expect(variable("CUDA_DEVICE_ORDER")).toBe("PCI_BUS_ID");
    expect(job.output()).toContain(`args ${uuids} -d${variable("GPU_ORCHESTRATOR_GPU_INDICES")}`);
  });

  test("gives indices to those who cannot take UUIDs", async () => {
    const job = sh(["--visible", "index"], 'echo "$CUDA_VISIBLE_DEVICES=$GPU_ORCHESTRATOR_GPU_INDICES"');
    expect(await job.ended).toBe(0);
    expect(job.output()).toMatch(/^(\d)=\1\n$/);
  });

  test("leaves input and output as they are", async () => {
    const job = run([], ["cat"], { input: "from outside\n" });
    expect([await job.ended, job.output()]).toEqual([0, "from outside\n"]);
    expect(job.errors()).not.toContain("\x1b");
  });

  test.skipIf(!hasPython)("does not make the command's pipes non-blocking (needs python3)", async () => {
    const flags = "import fcntl, os; print([fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in (1, 2)])";
    const job = run([], ["python3", "-c", flags]);
    expect([await job.ended, job.output()]).toEqual([0, "[0, 0]\n"]);
  });

  test("says what would come of it and runs nothing when asked for a dry run", async () => {
    const job = sh(["--dry-run"], "echo began");
    expect(await job.ended).toBe(0);
    expect(job.output()).toContain("granted now");
    expect(job.output()).not.toContain("began");
  });

  test("is named after who runs what, and shows the processes as its own", async () => {
    const { job, id } = await running([], "sleep 100");
    expect(id).toMatch(/^ada-sh-/);
    expect((await recordOf(daemon, id)).workload_data.pid).toBe(job.pid());
    process.kill(job.pid(), "SIGTERM");
    await job.ended;
  });

  test.each([
    ["SIGTERM", 143],
    ["SIGHUP", 129],
    ["SIGINT", 130],
  ] as const)("passes %s on to the command, and ends as it does", async (signal, code) => {
    const { job, id } = await running([], "exec sleep 100");
    process.kill(job.pid(), signal);
    expect(await job.ended).toBe(code);
    expect(await endOf(daemon, id)).toBe("released");
  });

  test("passes SIGUSR1 on, which ends neither", async () => {
    const { job } = await running([], "trap 'echo told; exit 3' USR1\nwhile :; do sleep 0.05; done");
    process.kill(job.pid(), "SIGUSR1");
    expect(await job.ended).toBe(3);
    expect(job.output()).toContain("told");
  });

  test("a kill -9 of gpuo ends the command and all that came from it, and gives the GPUs back", async () => {
    const { job, id, pid, pidOf } = await running(
      [],
      "setsid sleep 100 & echo child=$!=\n(sleep 100 & echo grand=$!=)\nwait; sleep 100",
    );
    await job.writes(/child=\d+=/);
    await job.writes(/grand=\d+=/);
    process.kill(job.pid(), "SIGKILL");
    for (const one of [pid, pidOf("child"), pidOf("grand")]) await gone(one);
    expect(GIVEN_BACK).toContain(await endOf(daemon, id));
  });

  test("after a kill -9 of gpuo, what ignores SIGTERM is killed after the grace, and holds its GPUs until then", async () => {
    const { job, id, pid } = await running(["--grace", "1s"], "trap '' TERM\nwhile :; do sleep 0.05; done");
    process.kill(job.pid(), "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect([isAlive(pid), (await recordOf(daemon, id)).status]).toEqual([true, "leased"]);
    await gone(pid);
    expect(GIVEN_BACK).toContain(await endOf(daemon, id));
  });

  test("a kill -9 of the keeper harms nothing: another takes over", async () => {
    const { job, id, pid } = await running(["--ttl", "3s"], "exec sleep 100");
    const first = keeperOf(job);
    process.kill(first, "SIGKILL");
    await job.writes("another one takes over");
    await until(
      () => keeperOf(job) !== undefined && keeperOf(job) !== first,
      () => "a new keeper",
    );
    await new Promise((resolve) => setTimeout(resolve, 3_500));
    expect([isAlive(pid), (await recordOf(daemon, id)).status]).toEqual([true, "leased"]);
    process.kill(job.pid(), "SIGTERM");
    expect([await job.ended, await endOf(daemon, id)]).toEqual([143, "released"]);
  });

  test("a kill -9 of gpuo and keeper at once ends the command, and the lease ends by its TTL", async () => {
    const { job, id, pid } = await running(["--ttl", "2s"], "exec sleep 100");
    process.kill(keeperOf(job), "SIGKILL");
    process.kill(job.pid(), "SIGKILL");
    await gone(pid);
    expect(await endOf(daemon, id)).toBe("expired");
  });

  test("a worker that is killed is the command's business", async () => {
    const { job, pidOf } = await running([], "sleep 100 & echo worker=$!=\nwait $!; echo code $?; exit 5");
    await job.writes(/worker=\d+=/);
    process.kill(pidOf("worker"), "SIGKILL");
    expect(await job.ended).toBe(5);
    expect(job.output()).toContain("code 137");
  });

  test("what the command leaves behind is ended before the GPUs are given back", async () => {
    const job = sh([], "(setsid sh -c 'echo left=$$=; exec sleep 100' &)\nsleep 0.3");
    expect(await job.ended).toBe(0);
    expect(isAlive(Number(/left=(\d+)=/.exec(job.output())?.[1]))).toBe(false);
    expect(job.errors()).toContain("ending 1 process that it left behind");
  });

  test.skipIf(!hasCage)(
    "what left the command's session, parents and environment is ended too (needs a writable cgroup v2 with cgroup.kill)",
    async () => {
      const { job, id, pidOf } = await running(
        ["--grace", "1s"],
        "env -i setsid sh -c 'trap \"\" TERM; sleep 100 & echo child=$$=; wait' &\nsleep 0.5; exit 3",
      );
      await job.writes(/child=\d+=/);
      expect(job.output()).toMatch(/id=/);
      expect(await job.ended).toBe(3);
      expect(isAlive(pidOf("child"))).toBe(false);
      expect(await endOf(daemon, id)).toBe("released");
      expect(cageLeft(id)).toBe(false);
      expect(job.errors()).toContain("ending");
    },
  );

  test.skipIf(!hasCage)("so it is after a kill -9 of gpuo (needs a writable cgroup v2 with cgroup.kill)", async () => {
    const { job, id, pidOf } = await running([], "env -i setsid sh -c 'sleep 100 & echo child=$$=; wait' &\nwait");
    await job.writes(/child=\d+=/);
    process.kill(job.pid(), "SIGKILL");
    await until(() => !isAlive(pidOf("child")), job.output);
    expect(GIVEN_BACK).toContain(await endOf(daemon, id));
    await until(() => !cageLeft(id), job.errors);
  });

  test("a lease that is revoked ends the command, and says why", async () => {
    const { job, id } = await running([], "exec sleep 100");
    await daemon.call("POST", `/gpu/allocations/${id}/revoke`, { reason: "the fan is on fire" });
    expect(await job.ended).toBe(143);
    expect(job.errors()).toMatch(/revoked.*the fan is on fire/);
  });

  test("a message to the holder is shown beside the command", async () => {
    const { job, id } = await running([], "while :; do sleep 0.05; done");
    await daemon.call("POST", `/gpu/allocations/${id}/nudge`, { message: "done by\u001b[31m six?" });
    await until(() => job.errors().includes("asks: done by"), job.errors);
    expect(job.errors()).not.toContain("\u001b");
    process.kill(job.pid(), "SIGTERM");
    await job.ended;
  });

  test("a lease that is lost kills what does not end within the grace", async () => {
    const { job, id } = await running(["--grace", "500ms"], "trap '' TERM\nwhile :; do sleep 0.05; done");
    await daemon.call("POST", `/gpu/allocations/${id}/revoke`, { reason: "now" });
    expect(await job.ended).toBe(137);
  });

  test("a lease that is lost leaves the command alone when told so", async () => {
    const { job, id } = await running(["--keep-running"], "trap 'exit 4' USR1\nwhile :; do sleep 0.05; done");
    await daemon.call("POST", `/gpu/allocations/${id}/revoke`, { reason: "now" });
    await job.writes("runs on");
    process.kill(job.pid(), "SIGUSR1");
    expect(await job.ended).toBe(4);
  });

  test("is renewed for as long as it runs", async () => {
    const { job, id } = await running(["--ttl", "1500ms"], "sleep 4; exit 6");
    expect(await job.ended).toBe(6);
    expect(await endOf(daemon, id)).toBe("released");
  });

  test("is told before its stated end", async () => {
    const { job } = await running(
      ["--max-duration", "30s", "--notify-before", "24s"],
      "trap 'exit 8' USR1\nwhile :; do sleep 0.05; done",
    );
    expect(await job.ended).toBe(8);
    expect(job.errors()).toContain("the lease ends in");
  });

  test("a daemon that nobody runs is a failure of its own", async () => {
    const job = sh(["--url", "http://127.0.0.1:1"], "true");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await job.ended).toBe(125);
    expect(job.errors()).toContain("ECONNREFUSED");
  }, 30_000);
});

describe.skipIf(!isBuilt)("gpuo run on a busy host", () => {
  const PREEMPTION = "preemption: {enabled: true, grace_period: 12s}\n";
  let daemon: TestDaemon;
  let holder: string;

  beforeAll(async () => {
    daemon = await startDaemon({ simulate: "h100x1" });
    holder = (await daemon.allocate({ service_name: "holder", max_duration: "1h" })).body.id;
  });

  afterAll(async () => {
    await daemon.end();
    daemon.removeFolder();
  });

  test("exits 75 when it is not to wait, and 124 when it has waited long enough", async () => {
    const now = startJob(daemon, ["run", "--no-wait", "--", "true"]);
    const soon = startJob(daemon, ["run", "--wait", "1s", "--", "true"]);
    expect(await now.ended).toBe(75);
    expect(await soon.ended).toBe(124);
    expect(soon.errors()).toContain("timed_out");
  });

  test("says what it waits for, one line a change, and cancels when it is ended", async () => {
    const job = startJob(daemon, ["run", "--name", "waiter", "--", "true"]);
    await job.writes(/gpuo: queued 1 of 1, about .*, waiting for 1 GPU/);
    expect(job.errors()).not.toContain("\x1b");
    process.kill(job.pid(), "SIGTERM");
    expect(await job.ended).toBe(143);
    const { queue } = (await daemon.call("GET", "/gpu/list")).body;
    expect(queue.filter(({ service_name }: { service_name: string }) => service_name === "waiter")).toEqual([]);
  });

  test("waits and runs on over restarts of the daemon", async () => {
    const { folder } = daemon;
    const port = Number(new URL(daemon.url).port);
    const restarted = async () => {
      await daemon.end();
      daemon = await startDaemon({ simulate: "h100x1", folder, port });
    };
    const job = startJob(daemon, ["run", "--ttl", "15s", "--", "sh", "-c", "echo began; sleep 6; exit 9"]);
    await job.writes("queued");
    await restarted();
    await daemon.release(holder);
    await job.writes("began");
    await restarted();
    expect(await job.ended).toBe(9);
    expect((await daemon.call("GET", "/gpu/allocations?status=ended&limit=1")).body.allocations[0].end_reason).toBe(
      "released",
    );
  }, 60_000);

  test("a lease that is preempted is told by a signal, and is gone in time", async () => {
    const busy = await startDaemon({ simulate: "h100x1", config: PREEMPTION });
    try {
      const flags = ["--preemptible", "--priority", "2", "--grace", "1s", "--preempt-signal", "USR1"];
      const job = startJob(busy, [
        "run",
        ...flags,
        "--",
        "sh",
        "-c",
        "trap 'echo saving' USR1; echo began; while :; do sleep 0.05; done",
      ]);
      await job.writes("began");
      const urgent = (
        await busy.allocate({ service_name: "urgent", priority: 10, webhook_url: "http://127.0.0.1:9/x" })
      ).body;
      expect(await job.ended).toBe(143);
      expect(job.output()).toContain("saving");
      expect(job.errors()).toContain("the GPUs must be given back within");
      await until(
        async () => (await recordOf(busy, urgent.id)).status !== "queued",
        () => "the urgent one is served",
      );
    } finally {
      await busy.end();
      busy.removeFolder();
    }
  }, 60_000);
});

test.skipIf(!isBuilt)("no argument of any process bears the key of gpuo run", async () => {
  const config = "auth:\n  enabled: true\n  api_keys:\n    s3cret-key: {principal: ada, role: allocate}\n";
  const daemon = await startDaemon({ config });
  const file = join(daemon.folder, "key");
  writeFileSync(file, "s3cret-key", { mode: 0o600 });
  const job = startJob(daemon, ["run", "--key-file", file, "--", "sh", "-c", "echo began; sleep 100"]);
  await job.writes("began");
  for (const pid of [job.pid(), keeperOf(job)]) {
    for (const about of ["cmdline", "environ"])
      expect(readFileSync(`/proc/${pid}/${about}`, "latin1")).not.toContain("s3cret-key");
  }
  process.kill(job.pid(), "SIGTERM");
  expect(await job.ended).toBe(143);
  await daemon.end();
  daemon.removeFolder();
});
