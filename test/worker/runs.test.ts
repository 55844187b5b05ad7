import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { type CageKind, chooseCage, makeCage, removeGroups } from "../../src/worker/cages.ts";
import { isAlive, MARK, ProcessTable, processOf } from "../../src/worker/processes.ts";
import { Site, type SiteOptions, until } from "./site.ts";

let site: Site;
let options: SiteOptions | null = null;
afterAll(async () => site.close());

/** A site for one test: the one before is closed. */
async function host(wanted: SiteOptions = {}): Promise<void> {
  if (options !== null) await site.close();
  options = wanted;
  site = await new Site(wanted).start();
}

/** A site that tests share in which nothing dies. */
async function sharedHost(wanted: SiteOptions = SHARED): Promise<void> {
  if (options !== wanted) await host(wanted);
}
const SHARED: SiteOptions = {};

const sh = (script: string) => ["/bin/sh", "-c", script];

describe("a task", () => {
  test("runs its command on its GPU, and its result, manifest and logs are in its place", async () => {
    await sharedHost();
    const script =
      'echo "on $CUDA_VISIBLE_DEVICES"; echo loud >&2; echo \'{"ok": true, "n": 7}\' > $OUT_DIR/responses.json';
    const id = site.submit(sh(script), { output: { artifacts: ["responses.json", "model.bin"] } });
    expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
    const place = join(site.dir, "results", id);
    const read = (file: string) => readFileSync(join(place, file), "utf8");
    expect(JSON.parse(read("responses.json"))).toEqual({ ok: true, n: 7 });
    expect(JSON.parse(read("manifest.json")).artifacts).toEqual([
      { path: "responses.json", present: true, bytes: 21 },
      { path: "model.bin", present: false, bytes: null },
    ]);
    expect(read("logs/stdout.log")).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z on GPU-\d\n$/);
    expect(read("logs/stderr.log")).toContain(" loud\n");
    await until("the GPU comes back", () => site.leases.freeGpus() === 2);
  });

  test("that fails has its exit code, its last lines and a result that says so", async () => {
    await sharedHost();
    const id = site.submit(sh("echo out of paper >&2; exit 7"), {}, 0);
    expect(await site.isOver(id)).toMatchObject({ status: "FAILED", error: "failed" });
    expect(site.run(id)).toMatchObject({ phase: "ended", exitCode: 7, tail: ["out of paper"] });
    expect(JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"))).toEqual({
      ok: false,
      exit_code: 7,
    });
  });

  test("sees no GPU without a lease, and of the worker's environment nothing", async () => {
    await sharedHost();
    const id = site.submit(sh("env > $OUT_DIR/env"), { env: { GREETING: "hello" } }, 0);
    await site.isOver(id);
    const env = readFileSync(join(site.dir, "results", id, "env"), "utf8");
    expect(env).toContain("CUDA_VISIBLE_DEVICES=\n");
    expect(env).toContain("GREETING=hello\n");
    const names = env.split("\n").map((line) => line.split("=")[0]);
    expect(names).not.toContain("VITEST");
    expect(readFileSync(join(site.dir, "results", id, "env"), "utf8")).toContain(`GPU_ORCHESTRATOR_TASK=${id}\n`);
  });

  test("whose program the host has not opened does not start, and names the setting", async () => {
    await sharedHost();
    const id = site.submit(["/usr/bin/env", "true"], {}, 0);
    expect((await site.isOver(id)).error).toContain("work.executors.process.programs");
    expect(site.run(id)).toMatchObject({ reason: "executor-failed" });
  });

  test("can gain no rights by what it starts", async () => {
    await sharedHost();
    const id = site.submit(sh("grep NoNewPrivs /proc/self/status > $OUT_DIR/rights"));
    expect((await site.isOver(id)).status).toBe("DONE");
    expect(readFileSync(join(site.dir, "results", id, "rights"), "utf8")).toBe("NoNewPrivs:\t1\n");
  });

  test.each([
    ["group", ["child", "main"]],
    ["main", ["main"]],
  ])("that is stopped is told so by a signal to its %s", async (to, told) => {
    await sharedHost();
    const tell = (who: string) => `trap 'echo > $OUT_DIR/told.${who}; exit 5' TERM`;
    const script = `(${tell("child")}; echo > $OUT_DIR/ready; while :; do sleep 0.1; done) & ${tell("main")}; while :; do sleep 0.1; done`;
    const id = site.submit(sh(script), { stop: { to, grace: "1s" } });
    const run = await site.phase(id, "running");
    await until("both listen", () => existsSync(join(site.dir, "runs", run.id, "out", "ready")));
    site.books.command({ type: "cancel-task", id });
    expect((await site.isOver(id)).status).toBe("CANCELLED");
    const left = readdirSync(join(site.dir, "results", id)).flatMap((name) => /^told\.(.*)$/.exec(name)?.[1] ?? []);
    expect(left.sort()).toEqual(told);
  });

  test("in several replicas has one result of all", async () => {
    await sharedHost();
    const item =
      '{\\"ok\\": true, \\"items\\": [{\\"index\\": 0, \\"output\\": \\"$GPU_ORCHESTRATOR_REPLICA\\"}], \\"usage\\": {\\"total_tokens\\": 5}}';
    const id = site.submit(sh(`echo "${item}" > $OUT_DIR/responses.json`), { resources: { replicas: 2 } });
    expect((await site.isOver(id)).status).toBe("DONE");
    const result = JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"));
    expect(result).toMatchObject({
      ok: true,
      items: [
        { index: 0, output: "0" },
        { index: 1, output: "1" },
      ],
      usage: { total_tokens: 10 },
    });
  });

  test("leaves no link behind through which another file could be read", async () => {
    await sharedHost();
    const id = site.submit(
      sh("ln -s /etc/passwd $OUT_DIR/secret; ln -s /etc $OUT_DIR/etc; mkfifo $OUT_DIR/pipe; echo x > $OUT_DIR/kept"),
      {},
      0,
    );
    await site.isOver(id);
    const place = join(site.dir, "results", id);
    expect(["secret", "etc", "pipe", "kept"].map((name) => existsSync(join(place, name)))).toEqual([
      false,
      false,
      false,
      true,
    ]);
  });
});

/** An ordinary user, or a container, may not make every kind. */
const works = (cage: CageKind): boolean => {
  try {
    return chooseCage(cage) === cage;
  } catch {
    return false;
  }
};

const inCage = (cage: CageKind) => {
  const caged: SiteOptions = { cage };

  test("a child that ignores SIGTERM and one that starts a session of its own are ended after the grace", async () => {
    await sharedHost(caged);
    const script =
      "trap '' TERM; setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) ; while :; do sleep 0.1; done";
    const id = site.submit(sh(script), { stop: { grace: "1s" } });
    const run = await site.phase(id, "running");
    await until("its children are there", () => site.marked().length >= 4);
    site.books.command({ type: "cancel-task", id });
    expect((await site.isOver(id)).status).toBe("CANCELLED");
    expect(site.marked()).toEqual([]);
    expect(processOf(site.pidOf(run.id, "child"))).toBeNull();
    await until("the GPU comes back", () => site.leases.freeGpus() === 2);
  });

  test("it gets the signal that it asked to be stopped with, also the one on which Node opens a debugger", async () => {
    await sharedHost(caged);
    const script = "trap 'exit 9' USR1; echo ready > $OUT_DIR/ready; while :; do sleep 0.1; done";
    const id = site.submit(sh(script), { stop: { signal: "USR1", grace: "1m" } });
    const run = await site.phase(id, "running");
    await until("it listens", () => existsSync(join(site.dir, "runs", run.id, "out", "ready")));
    site.books.command({ type: "cancel-task", id });
    expect((await site.isOver(id)).status).toBe("CANCELLED");
    expect(site.run(id)).toMatchObject({ exitCode: 9 });
  });

  test("what is left of it when its main process has ended is ended before the lease", async () => {
    await sharedHost(caged);
    const id = site.submit(sh("(setsid sleep 1000 >/dev/null 2>&1 &) ; exit 0"), { stop: { grace: "500ms" } });
    expect((await site.isOver(id)).status).toBe("DONE");
    expect(site.marked()).toEqual([]);
    await until("the GPU comes back", () => site.leases.freeGpus() === 2);
  });
};

for (const cage of ["cgroup", "pidns", "session"] as const) {
  describe.skipIf(!works(cage))(`in a cage of the kind ${cage} (needs a host where root may make it)`, () =>
    inCage(cage),
  );
}

const limits = process.getuid?.() === 0 ? await limitsHere() : [];
const limitsProcesses = existsSync("/usr/bin/perl") && limits.includes("pids");

async function limitsHere(): Promise<readonly string[]> {
  const group = await makeCage(
    "session",
    `probe-${process.pid}`,
    { memoryBytes: 2 ** 30, cpuMillis: 1_000, pids: 200 },
    [],
  );
  await removeGroups(group.record.groups);
  return group.record.limits;
}

describe.skipIf(!limits.includes("memory"))("memory (needs root and control groups that limit it)", () => {
  test("is no more than a run has asked for: what takes more is ended, and has run out of it", async () => {
    await host();
    const hungry = "head -c 400000000 /dev/zero | tail -c 400000000 >/dev/null; exit $?";
    const id = site.submit(sh(hungry), { resources: { hardware: { memory: "64Mi" } } }, 0);
    expect(await site.isOver(id, 60_000)).toMatchObject({ status: "FAILED", error: expect.stringContaining("oom") });
    expect(site.run(id)).toMatchObject({
      phase: "ended",
      reason: "oom",
      cage: { limits: expect.arrayContaining(["memory"]) },
    });
    const modest = site.submit(sh("head -c 4000000 /dev/zero | tail -c 4000000 >/dev/null; exit 3"), {}, 0);
    expect(await site.isOver(modest)).toMatchObject({ status: "FAILED" });
    expect(site.run(modest)).toMatchObject({ reason: "failed", exitCode: 3 });
  });
});

describe.skipIf(!limitsProcesses)("a fork bomb (needs root, perl and control groups that limit processes)", () => {
  test("is held by its cage, and is over with it", { timeout: 180_000 }, async () => {
    await host();
    const bomb = "perl -e 'while (1) { fork; select undef, undef, undef, 0.02 }'";
    const id = site.submit(sh(`while [ ! -e $OUT_DIR/go ]; do sleep 0.1; done; ${bomb}`), { stop: { grace: "500ms" } });
    const run = await site.phase(id, "running");
    const { groups } = JSON.parse(site.read(run.id, "order.json") ?? "").cage as { readonly groups: readonly string[] };
    const group = groups.find((path) => existsSync(join(path, "pids.max"))) ?? "";
    // Fewer than a run may have: it is to be small on the machine that tests it.
    writeFileSync(join(group, "pids.max"), "200");
    writeFileSync(join(site.dir, "runs", run.id, "out", "go"), "");
    const count = () => Number(readFileSync(join(group, "pids.current"), "utf8"));
    await until("it has all that it may have", () => count() >= 195, 60_000);
    expect(count()).toBeLessThanOrEqual(200);
    site.books.command({ type: "cancel-task", id });
    expect((await site.isOver(id, 90_000)).status).toBe("CANCELLED");
    expect(site.marked()).toEqual([]);
    expect(existsSync(group)).toBe(false);
    await until("the GPU comes back", () => site.leases.freeGpus() === 2);
  });
});

describe("what dies", () => {
  const waiting = sh("trap 'exit 0' TERM; while :; do sleep 0.1; done");

  test("the worker: the run goes on, and the next worker adopts it", async () => {
    await host();
    const id = site.submit(sh("trap 'exit 0' TERM; while :; do echo still here; sleep 0.1; done"));
    const run = await site.phase(id, "running");
    const child = site.pidOf(run.id, "child");
    await site.killWorker();
    const log = () => site.read(run.id, "logs/stdout.log")?.length ?? 0;
    const before = log();
    await until("its log goes on", () => log() > before);
    expect(processOf(child)).not.toBeNull();
    site.startWorker();
    site.books.command({ type: "cancel-task", id });
    expect((await site.isOver(id)).status).toBe("CANCELLED");
    expect(site.run(id)?.id).toBe(run.id);
    expect(processOf(child)).toBeNull();
  });

  test("the daemon: the run goes on, the worker gives nothing up, and what ended meanwhile is told", async () => {
    await host();
    const id = site.submit(sh("sleep 1; echo '{\"ok\": true}' > $OUT_DIR/responses.json"));
    await site.phase(id, "running");
    await site.killDaemon();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await site.startDaemon();
    expect((await site.isOver(id)).status).toBe("DONE");
    expect(site.task(id).slots[0]?.tries).toBe(1);
  });

  test("the holder: its run is killed and lost, and a task is not started again unless it says so", async () => {
    await host();
    const id = site.submit(sh("setsid sleep 1000 & sleep 1000"));
    const run = await site.phase(id, "running");
    await until("its children are there", () => site.marked().length >= 2);
    process.kill(site.pidOf(run.id, "holder"), "SIGKILL");
    expect(await site.isOver(id)).toMatchObject({ status: "FAILED" });
    expect(site.run(id)).toMatchObject({ reason: "lost", id: run.id });
    expect(site.marked()).toEqual([]);
  });

  test("the holder of a task that may be lost: it is started once more", async () => {
    await host();
    const id = site.submit(sh('case "$GPU_ORCHESTRATOR_RUN" in *-1) sleep 1000;; esac'), {
      retry: { lost: 1, backoff: "100ms" },
    });
    const run = await site.phase(id, "running");
    process.kill(site.pidOf(run.id, "holder"), "SIGKILL");
    expect((await site.isOver(id)).status).toBe("DONE");
    expect(site.task(id).slots[0]?.tries).toBe(2);
  });

  test("the holder three times: the task is failed as poison, however often it may be lost", async () => {
    await host();
    const id = site.submit(sh("exec sleep 1000"), { retry: { lost: 9, backoff: "100ms" } });
    for (let tries = 1; tries <= 3; tries++) {
      await until(`try ${tries} runs`, () => {
        const run = site.run(id);
        return run?.phase === "running" && site.task(id).slots[0]?.tries === tries;
      });
      process.kill(site.pidOf(site.run(id)?.id as string, "holder"), "SIGKILL");
      await until("it is seen", () => site.run(id)?.phase !== "running");
    }
    expect(await site.isOver(id)).toMatchObject({ status: "FAILED", error: expect.stringMatching(/^poison/) });
    expect(site.task(id).slots[0]?.tries).toBe(3);
  });

  test("the lease: the run goes down its ladder, for that reason", async () => {
    await host();
    const id = site.submit(waiting);
    const run = await site.phase(id, "running");
    const lease = run.phase === "running" ? run.lease?.allocationId : undefined;
    site.leases.end(lease ?? "", "preempted");
    await site.isOver(id);
    expect(site.run(id)).toMatchObject({ reason: "preempted", exitCode: 0 });
  });

  test("worker and holder at once: nothing is left, and the GPU comes back", async () => {
    await host();
    const id = site.submit(sh("(setsid sh -c 'sleep 1000 & sleep 1000' &); sleep 1000"));
    const run = await site.phase(id, "running");
    await until("its children are there", () => site.marked().length >= 3);
    await site.killWorker();
    process.kill(site.pidOf(run.id, "holder"), "SIGKILL");
    site.startWorker();
    await site.isOver(id);
    expect(site.run(id)).toMatchObject({ reason: "lost" });
    expect(site.marked()).toEqual([]);
    await until("the GPU comes back", () => site.leases.freeGpus() === 2);
  });

  test("the host: its runs are rebooted, their GPUs come back, and what may be lost starts again", async () => {
    await host();
    const script = sh('case "$GPU_ORCHESTRATOR_RUN" in *-1) sleep 1000;; esac');
    const [once, again] = [site.submit(script), site.submit(script, { retry: { lost: 1, backoff: "100ms" } })];
    const runs = [await site.phase(once, "running"), await site.phase(again, "running")];
    await site.killWorker();
    await site.killDaemon();
    for (const { id } of runs) {
      for (const file of ["holder", "child"] as const) process.kill(site.pidOf(id, file), "SIGKILL");
      // As of the boot before this one.
      const order = JSON.parse(site.read(id, "order.json") ?? "");
      writeFileSync(join(site.dir, "runs", id, "order.json"), JSON.stringify({ ...order, bootId: "boot-before" }));
    }
    await site.startDaemon();
    site.startWorker();
    expect(await site.isOver(once)).toMatchObject({ status: "FAILED", error: expect.stringMatching(/^rebooted/) });
    expect((await site.isOver(again)).status).toBe("DONE");
    expect(site.books.state.runs.get(runs[1]?.id as string)).toMatchObject({ reason: "rebooted" });
    await until("the GPUs come back", () => site.leases.freeGpus() === 2);
  });

  test("what the books know of a run: what bears its mark is stopped and counted, and what bears none is left", async () => {
    await host();
    const id = site.submit(sh("setsid sleep 1000 & sleep 1000"), { stop: { grace: "500ms" } });
    const run = await site.phase(id, "running");
    await until("its children are there", () => site.marked().length >= 2);
    const child = processOf(site.pidOf(run.id, "child"));
    const { [MARK]: _, ...plain } = process.env;
    const stranger = spawn("/bin/sleep", ["1000"], { detached: true, env: plain });
    onTestFinished(() => void stranger.kill("SIGKILL"));
    await site.killDaemon();
    const database = new DatabaseSync(join(site.dir, "work.db"));
    database.exec("DELETE FROM tasks; DELETE FROM runs");
    database.close();
    await site.startDaemon();
    await until("it is counted", () => site.figures.orphansStopped === 1);
    await until("nothing of it is left", () => !new ProcessTable().marks().has(run.id));
    expect(child !== null && isAlive(child)).toBe(false);
    expect(processOf(stranger.pid as number)).not.toBeNull();
    await until("its GPU comes back", () => site.leases.freeGpus() === 2);
    expect(site.leases.takenFromTheLiving).toEqual([]);
  });

  test("the books: a worker leaves the runs of others alone", async () => {
    await host();
    const id = site.submit(sh("exec sleep 1000"));
    const run = await site.phase(id, "running");
    const child = site.pidOf(run.id, "child");
    const start = processOf(child);
    const holder = processOf(site.pidOf(run.id, "holder"));
    await site.killDaemon();
    for (const file of ["work.db", "work.db-wal", "work.db-shm"]) rmSync(join(site.dir, file), { force: true });
    await site.startDaemon();
    await until("the worker reports", () => site.books.state.workers.size > 0);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(start !== null && isAlive(start)).toBe(true);
    expect(site.strangers.all).toMatchObject([{ run: run.id, phase: "running" }]);
    expect(site.leases.freeGpus()).toBe(1);
    // Until an admin says so. Then it is over, and its GPU comes back.
    site.strangers.stop(run.id);
    await until("its holder has left", () => holder === null || !isAlive(holder));
    expect(start === null || isAlive(start)).toBe(false);
    await until("its GPU comes back", () => site.leases.freeGpus() === 2);
    await until("nothing is told of it any more", () => site.strangers.all.length === 0);
    expect(site.leases.takenFromTheLiving).toEqual([]);
  });
});

describe("the books of a service that was restarted", () => {
  test("are lost: its run keeps the GPU that the run before it was given", async () => {
    await host();
    const script = 'case "$GPU_ORCHESTRATOR_RUN" in *-1) sleep 0.5; exit 1;; esac; exec sleep 1000';
    const uid = site.serve({ command: sh(script), restart: { policy: "on-failure", backoff: "100ms" } });
    await until("its second run is there", () => site.run(uid)?.id.endsWith("-2") === true);
    const run = await site.phase(uid, "running");
    const [lease] = [...site.leases.all.values()].filter(({ ended }) => ended === null);
    expect(lease?.wish.run).toMatch(/-1$/);
    await site.killDaemon();
    for (const file of ["work.db", "work.db-wal", "work.db-shm"]) rmSync(join(site.dir, file), { force: true });
    await site.startDaemon();
    await until("it is a stranger", () => site.strangers.all.length === 1);
    // Some looks.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect([lease?.ended, site.leases.freeGpus()]).toEqual([null, 1]);
    expect(site.strangers.adopt(run.id)).toBe(true);
    await until("it is adopted", () => site.books.state.runs.get(run.id)?.phase === "running");
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect([lease?.ended, site.leases.freeGpus()]).toEqual([null, 1]);
    const [adopted] = [...site.books.state.workloads.values()];
    site.books.command({ type: "delete-workload", id: adopted?.id ?? "" });
    await until("its GPU comes back", () => site.leases.freeGpus() === 2);
    expect(site.leases.takenFromTheLiving).toEqual([]);
  });
});

describe("a service", () => {
  const server = `
    const http = require("node:http");
    setTimeout(() => http.createServer((q, r) => r.end("ok")).listen(process.env.PORT, "127.0.0.1"), 300);
  `;
  const command = [process.execPath, "-e", server];

  test("is ready when it answers on its own port, is restarted when it ends, and keeps its GPU meanwhile", async () => {
    await sharedHost();
    const uid = site.serve({
      command,
      readiness: { http: "/health", interval: "100ms" },
      restart: { backoff: "100ms" },
    });
    const first = await site.phase(uid, "ready");
    process.kill(site.pidOf(first.id, "child"), "SIGKILL");
    await until("another run is ready", () => site.run(uid)?.id !== first.id && site.run(uid)?.phase === "ready");
    const own = [...site.leases.all.values()].filter(({ wish }) => wish.run === first.id);
    expect(own.map(({ ended }) => ended)).toEqual([null]);
  });

  test("is not ready because somebody else answers on its port", async () => {
    const { createServer } = await import("node:http");
    await sharedHost();
    const uid = site.serve({
      command: sh("sleep 1000"),
      readiness: { http: "/", interval: "100ms" },
      stop: { grace: "100ms" },
    });
    const run = await site.phase(uid, "running");
    const port = run.phase === "running" ? (run.port as number) : 0;
    const other = createServer((_req, res) => res.end("ok"));
    await new Promise<void>((resolve) => other.listen(port, "127.0.0.1", resolve));
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(site.run(uid)?.phase).toBe("running");
    await new Promise((resolve) => other.close(resolve));
  });
});
