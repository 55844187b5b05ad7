import { spawn, spawnSync } from "node:child_process";
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { readHierarchies } from "../../src/platform/control-groups.ts";
import { uptimeMs } from "../../src/platform/uptime.ts";
import { killAll, makeCage, membersOf, removeGroups, systemdArgv } from "../../src/worker/cages.ts";
import { claimIn, type Order, readIn, removeOutput, writeIn } from "../../src/worker/folder.ts";
import { LogFile } from "../../src/worker/log-file.ts";
import { isAlive, MARK, type ProcessName, ProcessTable, processOf } from "../../src/worker/processes.ts";
import { publish } from "../../src/worker/results.ts";
import { RunWatch } from "../../src/worker/watch.ts";
import { until } from "./site.ts";

const dir = mkdtempSync(join(tmpdir(), "gpuo-parts-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function folder(name: string): string {
  const path = join(dir, name);
  mkdirSync(path, { recursive: true });
  return path;
}

describe("a log", () => {
  test("has the time before each line, is turned over when it is full, and keeps so many files", () => {
    const path = join(folder("logs"), "stdout.log");
    const log = new LogFile(path, 100, 3, () => 0);
    for (let i = 0; i < 12; i++) log.write(Buffer.from(`line ${i}\nhalf`));
    log.end();
    expect(readdirSync(join(dir, "logs")).sort()).toEqual(["stdout.log", "stdout.log.1", "stdout.log.2"]);
    expect(readFileSync(`${path}.1`, "utf8").split("\n")[0]).toMatch(/^1970-01-01T00:00:00.000Z (half)?line \d+$/);
    expect(readFileSync(path, "utf8")).toMatch(/ half\n$/);
  });

  test("on a full disk drops lines, counts them, and goes on when there is room again", () => {
    const log = new LogFile("/dev/full", 1_000, 2, () => 0);
    log.write(Buffer.from("a\nb\n"));
    expect(log.dropped).toBe(2);
    log.end();
  });

  test("cuts a line that never ends", () => {
    const path = join(folder("long"), "stdout.log");
    const log = new LogFile(path, 2 ** 20, 2, () => 0);
    log.write(Buffer.alloc(40_000, 120));
    log.end();
    expect(
      readFileSync(path, "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => line.length - 25),
    ).toEqual([16_384, 16_384, 7_232]);
  });
});

const order: Order = {
  run: "run-x",
  books: "b",
  epoch: 1,
  bootId: "boot-1",
  orderedAt: 0,
  argv: ["true"],
  env: { TOKEN: "secret" },
  cwd: "/",
  logs: dir,
  maxLogBytes: 1,
  maxLogFiles: 1,
  enter: [],
  leave: [],
  cage: { kind: "session", groups: [], limits: [] },
  graceMs: 0,
  port: null,
  probes: { readiness: null, liveness: null, host: "", model: null },
};

describe("a run's folder", () => {
  test("is begun by one only, whoever is first", () => {
    const path = folder("claim");
    expect(claimIn(path, "holder", { pid: 1 })).toBe(true);
    expect(claimIn(path, "holder", { pid: 2 })).toBe(false);
    expect(readIn(path, "holder")).toEqual({ pid: 1 });
    expect(readdirSync(path)).toEqual(["holder.json"]);
  });

  test("of another boot is rebooted, and its secrets are gone from the disk", async () => {
    const path = folder("reboot");
    writeIn(path, "order", order);
    writeIn(path, "holder", { pid: process.pid, startTime: 1, at: 5 });
    const watch = new RunWatch(path, order);
    watch.tick(10, "boot-2", () => new ProcessTable());
    expect(watch.seen()).toMatchObject({ phase: "ended", ended: { reason: "rebooted" } });
    await watch.tidied;
    expect(JSON.stringify(readIn(path, "order"))).not.toContain("secret");
  });

  test("of a worker that died before it had forgotten the secrets is tidied up by the next", async () => {
    const path = folder("forgetful");
    writeIn(path, "order", order);
    writeIn(path, "end", { at: 1, reason: null, detail: "", exitCode: 0, signal: null, resultOk: null, tail: [] });
    await new RunWatch(path, order).tidied;
    expect(JSON.stringify(readIn(path, "order"))).not.toContain("secret");
    expect(readIn<Order>(path, "order")?.run).toBe("run-x");
  });

  test("is known by its order after a power cut that left nothing in its other files, and may have begun", () => {
    const path = folder("dark");
    writeIn(path, "order", { ...order, orderedAt: 7 });
    for (const name of ["holder", "child", "exit", "end", "stop", "published"])
      writeFileSync(join(path, `${name}.json`), "");
    const watch = new RunWatch(path, { ...order, orderedAt: 7 });
    expect(watch.seen()).toMatchObject({ phase: "starting", ended: null, published: false });
    watch.tick(10, "boot-2", () => new ProcessTable());
    // A task that may not be lost is not started again: nobody knows that it had not begun.
    expect(watch.seen()).toMatchObject({ phase: "ended", startedAt: 7, ended: { reason: "rebooted" } });
  });

  test("that no holder has taken up is given up after a while, and no holder may take it up then", () => {
    const path = folder("late");
    writeIn(path, "order", order);
    const watch = new RunWatch(path, order);
    const look = () => new ProcessTable();
    watch.tick(9_000, "boot-1", look);
    expect(watch.seen().phase).toBe("starting");
    watch.tick(11_000, "boot-1", look);
    watch.tick(11_100, "boot-1", look);
    expect(watch.seen()).toMatchObject({ phase: "ended", startedAt: null });
    expect(claimIn(path, "holder", { pid: 1 })).toBe(false);
  });
});

describe("a run that other books adopt", () => {
  const assignment = { run: "r", job: "job" } as unknown as NonNullable<Order["assignment"]>;

  test("is known by them though it ends, and its worker too, before they have heard of it", async () => {
    const path = folder("adopted");
    writeIn(path, "order", { ...order, assignment });
    writeIn(path, "holder", { givenUp: true });
    const watch = new RunWatch(path, { ...order, assignment });
    watch.adopt("new");
    watch.tick(11_000, order.bootId, () => new ProcessTable());
    await watch.tidied;
    const next = new RunWatch(path, readIn<Order>(path, "order") as Order);
    expect(next.seen("new")).toMatchObject({ phase: "ended", books: "new", adopted: assignment });
    next.settle();
    await next.tidied;
    expect(readIn<Order>(path, "order")?.assignment).toBe(undefined);
  });

  test("is a stranger again when they have no place for it", () => {
    const path = folder("disowned");
    const watch = new RunWatch(path, { ...order, assignment });
    watch.adopt("new");
    watch.disown();
    for (const each of [watch, new RunWatch(path, { ...order, assignment })]) {
      expect(each.seen("new")).toMatchObject({ books: order.books, ofJob: "job" });
      expect(each.seen("new").adopted).toBe(undefined);
    }
  });

  test("says which lease it has, by which that is not given back under it, whoever's mark that bears", () => {
    const path = folder("leased");
    const leased = { ...assignment, lease: { allocationId: "lease-1" } } as unknown as typeof assignment;
    const watch = new RunWatch(path, { ...order, assignment: leased });
    // Before and after it knows whose books it is asked for.
    for (const ours of [null, "new", order.books]) expect(watch.seen(ours).allocationId).toBe("lease-1");
    writeIn(path, "holder", { givenUp: true });
    watch.tick(11_000, order.bootId, () => new ProcessTable());
    expect(watch.seen("new")).not.toHaveProperty("allocationId");
    expect(new RunWatch(path, { ...order, assignment }).seen("new")).not.toHaveProperty("allocationId");
  });

  test("began when its process did, whatever was done to the clock since", () => {
    const path = folder("clock-set");
    writeIn(path, "holder", { ...(processOf(process.pid) as ProcessName), at: 1 });
    writeIn(path, "child", { ...(processOf(process.pid) as ProcessName), at: 1 });
    const watch = new RunWatch(path, { ...order, assignment });
    watch.tick(10, order.bootId, () => new ProcessTable());
    expect(watch.seen("new").startedAt).toBe(1);
    watch.adopt("new");
    const { startedAt } = watch.seen("new");
    expect(Math.abs(Date.now() - process.uptime() * 1_000 - (startedAt as number))).toBeLessThan(10_000);
    expect(new RunWatch(path, { ...order, assignment }).seen("new").startedAt).toBe(startedAt);
  });
});

describe("results", () => {
  test("of a later run take the place of an earlier one's, and doing it twice does no harm", () => {
    const end = { at: 0, reason: null, detail: "", exitCode: 0, signal: null, resultOk: null, tail: [] };
    const wish = { run: "r", task: "t", replica: 0, replicas: 1, artifacts: ["../../etc/passwd", "a.txt"] };
    for (const text of ["first", "second"]) {
      const path = folder(text);
      mkdirSync(join(path, "out"));
      writeFileSync(join(path, "out", "a.txt"), text);
      publish(path, end, wish, join(dir, "results"));
      publish(path, end, wish, join(dir, "results"));
    }
    expect(readFileSync(join(dir, "results/t/a.txt"), "utf8")).toBe("second");
    const { artifacts } = JSON.parse(readFileSync(join(dir, "results/t/manifest.json"), "utf8"));
    expect(artifacts.map(({ present }: { present: boolean }) => present)).toEqual([false, true]);
  });
});

describe.skipIf(process.getuid?.() !== 0)("results of another user's run (needs root)", () => {
  const end = { at: 0, reason: null, detail: "", exitCode: 0, signal: null, resultOk: null, tail: [] };

  /** What a run of this user has written, beside what is another's and was moved there. */
  function written(name: string, uid: number | undefined, output = "out"): string {
    const path = folder(name);
    writeIn(path, "order", uid === undefined ? order : { ...order, uid });
    mkdirSync(join(path, output, "theirs"), { recursive: true });
    const owners = { "own.txt": 12_345, "theirs.txt": 23_456, "roots.txt": 0, "theirs/a.txt": 12_345 };
    for (const [file, owner] of Object.entries(owners)) {
      writeFileSync(join(path, output, file), file);
      chownSync(join(path, output, file), owner, owner);
    }
    chownSync(join(path, output, "theirs"), 23_456, 23_456);
    chownSync(join(path, output), 12_345, 12_345);
    publish(path, end, { run: "r", task: name, replica: 0, replicas: 1, artifacts: [] }, join(dir, "results"));
    return join(dir, "results", name);
  }

  const kept = (path: string) => readdirSync(path).filter((name) => name.includes("txt") || name === "theirs");

  test("are its own files, and no others that it has only moved there", () => {
    const path = written("of-one-user", 12_345);
    expect(kept(path)).toEqual(["own.txt"]);
    expect(statSync(join(path, "own.txt")).uid).toBe(0);
  });

  test("are what is there where its container maps its users, or its worker was older", () => {
    expect(kept(written("of-a-container", undefined))).toEqual(["own.txt", "roots.txt", "theirs", "theirs.txt"]);
  });

  test("are what a worker that died over it has cleaned, too", () => {
    expect(kept(written("resumed", 12_345, "out.1-1"))).toEqual(["own.txt", "roots.txt"]);
  });
});

describe("results that two workers put in place at once", () => {
  const end = { at: 0, reason: null, detail: "", exitCode: 0, signal: null, resultOk: null, tail: [] };
  const responses = (task: string) => readFileSync(join(dir, "results", task, "responses.json"), "utf8");
  const wish = (task: string) => ({ run: "r", task, replica: 0, replicas: 1, artifacts: [] });

  function written(task: string, name: string): string {
    const path = folder(task);
    mkdirSync(join(path, name, "logs"), { recursive: true });
    mkdirSync(join(path, "logs"), { recursive: true });
    writeFileSync(join(path, name, "responses.json"), '{"ok": true, "n": 1}');
    return path;
  }

  test("are left alone by the one that comes second, which does not say that they are there while the first has them", () => {
    const other = spawn("/bin/sleep", ["1000"]);
    onTestFinished(() => void other.kill("SIGKILL"));
    const { pid, startTime } = processOf(other.pid as number) as ProcessName;
    const path = written("two", `out.${pid}-${startTime}`);
    const root = join(dir, "results", "two");
    mkdirSync(root, { recursive: true });
    writeFileSync(join(root, "responses.json"), "of the first");
    expect(publish(path, end, wish("two"), join(dir, "results"))).toBe(false);
    expect(responses("two")).toBe("of the first");
    // Whatever is told of the run meanwhile: the first one copies, or tries again on a full disk.
    removeOutput(path);
    expect(readdirSync(path).sort()).toEqual(["logs", `out.${pid}-${startTime}`]);
    renameSync(join(path, `out.${pid}-${startTime}`), join(dir, "put-there"));
    expect(publish(path, end, wish("two"), join(dir, "results"))).toBe(true);
    expect(responses("two")).toBe("of the first");
  });

  test("of a run of which nothing is wanted go, those of a dead process and one's own too", () => {
    const path = folder("unwanted");
    const { pid, startTime } = processOf(process.pid) as ProcessName;
    for (const name of ["out", "out.4194305-1", `out.${pid}-${startTime}`, "outer"]) mkdirSync(join(path, name));
    removeOutput(path);
    expect(readdirSync(path)).toEqual(["outer"]);
  });

  test("are put there by the next when the first has died meanwhile", () => {
    const path = written("dead", "out.4194305-1");
    // It was copying to another file system.
    mkdirSync(join(dir, "results", "dead.new"), { recursive: true });
    expect(publish(path, end, wish("dead"), join(dir, "results"))).toBe(true);
    expect(existsSync(join(dir, "results", "dead.new"))).toBe(false);
    expect(responses("dead")).toBe('{"ok": true, "n": 1}');
    expect(readdirSync(path)).toEqual(["logs"]);
  });

  const elsewhere = "/dev/shm";
  const isElsewhere = existsSync(elsewhere) && statSync(elsewhere).dev !== statSync(dir).dev;
  test.skipIf(!isElsewhere)("may lie on another file system (needs one at /dev/shm)", () => {
    const results = mkdtempSync(join(elsewhere, "gpuo-results-"));
    onTestFinished(() => rmSync(results, { recursive: true, force: true }));
    const path = written("far", "out");
    publish(path, end, wish("far"), results);
    expect(JSON.parse(readFileSync(join(results, "far", "responses.json"), "utf8"))).toEqual({ ok: true, n: 1 });
    expect(readdirSync(results)).toEqual(["far"]);
    expect(readdirSync(path)).toEqual(["logs"]);
  });
});

describe("results, whatever a run has written,", () => {
  const end = { at: 0, reason: null, detail: "", exitCode: 0, signal: null, resultOk: null, tail: [] };

  test("have the worker's manifest and logs, and files whose names are text", () => {
    const path = folder("odd");
    const out = join(path, "out");
    mkdirSync(join(out, "manifest.json", "deep"), { recursive: true });
    mkdirSync(join(path, "logs"));
    writeFileSync(join(path, "logs", "stdout.log"), "said");
    writeFileSync(join(out, "logs"), "in the way");
    writeFileSync(Buffer.concat([Buffer.from(`${out}/caf`), Buffer.of(0xe9)]), "kept");
    publish(path, end, { run: "r", task: "odd", replica: 0, replicas: 1, artifacts: [] }, join(dir, "results"));
    const read = (name: string) => readFileSync(join(dir, "results/odd", name), "utf8");
    expect([JSON.parse(read("manifest.json")).run, read("logs/stdout.log"), read("café")]).toEqual([
      "r",
      "said",
      "kept",
    ]);
  });

  test("are merged without what is no list of items", () => {
    for (const [replica, text] of ['{"items": 5, "usage": 7}', '{"items": [null, {"output": "b"}]}'].entries()) {
      const path = folder(`part${replica}`);
      mkdirSync(join(path, "out"));
      writeFileSync(join(path, "out", "responses.json"), text);
      publish(path, end, { run: "r", task: "parts", replica, replicas: 2, artifacts: [] }, join(dir, "results"));
    }
    const { items } = JSON.parse(readFileSync(join(dir, "results/parts/responses.json"), "utf8"));
    expect(items).toEqual([{ output: "b", index: 3 }]);
  });
});

describe("processes", () => {
  test("are known by number and start, so that a number that came again is somebody else", () => {
    const own = processOf(process.pid);
    expect(own !== null && isAlive(own)).toBe(true);
    expect(isAlive({ pid: process.pid, startTime: 1 })).toBe(false);
  });

  /** A session whose leader has ended, and one of it that has not; `env` is what both bear. */
  async function leaderless(env: Record<string, string>) {
    const shell = spawn("/bin/sh", ["-c", "sleep 1000 & echo $!"], {
      detached: true,
      env,
      stdio: ["ignore", "pipe", "ignore"],
    });
    const leader = { pid: shell.pid as number, startTime: processOf(shell.pid as number)?.startTime ?? -1 };
    const left = Number(await new Promise((resolve) => shell.stdout.once("data", resolve)));
    onTestFinished(() => void process.kill(left, "SIGKILL"));
    await until("its leader has ended", () => processOf(leader.pid) === null);
    return { leader, left };
  }

  test("of a session whose leader has ended are its own, marked or not, if one was there before that", async () => {
    const { leader, left } = await leaderless({});
    expect(new ProcessTable().family({ ...leader, ownUntilMs: uptimeMs() }, "run-x")).toEqual([left]);
  });

  test("of a session that came later with the same number are a stranger's, and left alone", async () => {
    const { leader, left } = await leaderless({});
    const longAgo = { ...leader, ownUntilMs: uptimeMs() - 60_000 };
    expect(new ProcessTable().family(longAgo, "run-x")).toEqual([]);
    expect(new ProcessTable().family(leader, "run-x")).toEqual([]);
    expect(processOf(left)).not.toBe(null);
  });

  test("of a session in which one bears the mark are its own, whenever its leader ended", async () => {
    const { leader, left } = await leaderless({ [MARK]: "run-x" });
    expect(new ProcessTable().family({ ...leader, ownUntilMs: 0 }, "run-x")).toEqual([left]);
  });
});

describe("a session whose leader has ended", () => {
  test("is the run's own though one of it forks and ends between two looks, and nobody in it bears the mark", async () => {
    const path = folder("forks");
    // The outer shell ends at once, the inner one when it has begun what stays.
    const inner = "sleep 2; sleep 1000 & echo $!";
    const shell = spawn("/bin/sh", ["-c", `sh -c '${inner}' &`], {
      detached: true,
      env: {},
      stdio: ["ignore", "pipe", "ignore"],
    });
    const leader = { ...(processOf(shell.pid as number) as ProcessName), at: 1 };
    let left: number | null = null;
    shell.stdout.once("data", (text) => {
      left = Number(text);
      onTestFinished(() => void process.kill(Number(text), "SIGKILL"));
    });
    await until("its leader has ended", () => processOf(leader.pid) === null);
    writeIn(path, "holder", { pid: 4_194_305, startTime: 1, at: 1 });
    writeIn(path, "child", leader);
    writeIn(path, "exit", { code: 0, signal: null, at: Date.now(), error: null, atUptimeMs: uptimeMs() - 2_500 });
    const watch = new RunWatch(path, { ...order, graceMs: 1_000_000 });
    const tick = () => watch.tick(Date.now(), order.bootId, () => new ProcessTable());
    await until("one stays", () => {
      tick();
      return left !== null;
    });
    for (let i = 0; i < 8; i++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      tick();
    }
    expect(watch.end).toBe(null);
  });
});

describe("the stop ladder", () => {
  test("goes on when the clock is set back under it: the grace is no longer than it was", async () => {
    const path = folder("backwards");
    const run = spawn("/bin/sh", ["-c", "trap '' TERM; while :; do sleep 0.05; done"], { detached: true, env: {} });
    const gone = new Promise((resolve) => run.once("exit", resolve));
    const named = { ...(processOf(run.pid as number) as ProcessName), at: 1 };
    const own: Order = { ...order, graceMs: 200 };
    writeIn(path, "order", own);
    writeIn(path, "holder", { ...(processOf(process.pid) as ProcessName), at: 1 });
    writeIn(path, "child", named);
    const watch = new RunWatch(path, own);
    const noon = 1_900_000_000_000;
    watch.stop({ signal: "TERM", graceMs: 200, to: "main" }, null, noon);
    for (let i = 0; processOf(run.pid as number) !== null && i < 100; i++) {
      watch.tick(noon - 3_600_000 + i * 50, "boot-1", () => new ProcessTable());
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(processOf(run.pid as number)).toBe(null);
    await gone;
  });
});

describe("the cage of systemd", () => {
  test("is a transient unit with the run's limits", () => {
    expect(systemdArgv("run-1", { memoryBytes: 1_024, cpuMillis: 1_500, pids: 99 }, false)).toEqual([
      ...["systemd-run", "--quiet", "--collect", "--unit=go-run-1", "--slice=gpu-orchestrator-runs.slice"],
      ...["-p", "MemoryMax=1024", "-p", "CPUQuota=150%", "-p", "TasksMax=99", "-p", "KillMode=process"],
      ...["-p", "OOMPolicy=continue", "--"],
    ]);
  });

  test("has what is in the unit's group when the holder is dead, whatever it has left behind", () => {
    const group = folder("unit");
    writeFileSync(join(group, "cgroup.procs"), `${process.pid}\n`);
    writeFileSync(join(group, "pids.max"), "99");
    const caged: Order = { ...order, cage: { kind: "systemd", groups: [], limits: [] } };
    const holder = { pid: 2 ** 22 + 1, startTime: 1, group };
    expect(membersOf(caged, null, holder, new ProcessTable())).toEqual([process.pid]);
    killAll(caged, [], holder);
    expect(readFileSync(join(group, "pids.max"), "utf8")).toMatch(/^0/);
  });
});

describe("control groups", () => {
  test.skipIf(process.getuid?.() !== 0)("tell who is in them which limits hold for it (needs root)", async () => {
    const limits = { memoryBytes: 2 ** 30, cpuMillis: 1_000, pids: 200 };
    const { enter, record } = await makeCage("session", `limits-${process.pid}`, limits, []);
    onTestFinished(() => removeGroups(record.groups));
    const module = new URL("../../src/worker/cages.ts", import.meta.url).href;
    const say = `import(${JSON.stringify(module)}).then(({ ownLimits }) => console.log(JSON.stringify(ownLimits())))`;
    const join = enter.map((file) => `echo $$ > ${file} && `).join("");
    const options = { encoding: "utf8", env: { PATH: process.env.PATH } } as const;
    const said = (script: string) => JSON.parse(spawnSync("/bin/sh", ["-c", script, say], options).stdout);
    const node = `exec ${process.execPath} --disable-warning=ExperimentalWarning -e "$0"`;
    expect(said(join + node).sort()).toEqual([...record.limits].sort());
    expect(said(node).length).toBeLessThanOrEqual(record.limits.length);
  });

  test("are found in both versions, where a container has mounted a part of them too", () => {
    const mounts = [
      "1 0 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
      "2 0 0:2 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
      "3 0 0:3 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
    ];
    const { unified, legacy } = readHierarchies(mounts.join("\n"), "4:memory:/box/me\n3:cpu,cpuacct:/\n0::/user\n");
    expect(unified).toEqual({ mount: "/sys/fs/cgroup/unified", own: "/user" });
    expect(Object.fromEntries(legacy)).toEqual({
      memory: { mount: "/sys/fs/cgroup/memory", own: "/me" },
      cpu: { mount: "/sys/fs/cgroup/cpu,cpuacct", own: "/" },
    });
  });
});
