import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { ProcessTable } from "../../src/monitor/process-table.ts";

const NOW = 1_800_000_000_000;

interface Given {
  readonly ppid: number;
  readonly name?: string;
  readonly startTicks?: number;
  readonly uid?: number;
  readonly cgroup?: string;
}

/** A made-up /proc, on a host that has been up for 1,000 s. */
function table(processes: { readonly [pid: number]: Given }): ProcessTable {
  const root = mkdtempSync(join(tmpdir(), "gpu-orchestrator-proc-"));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  writeFileSync(join(root, "uptime"), "1000.00 3500.10\n");
  writeFileSync(join(root, "passwd"), "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\nbroken\n");
  for (const [pid, { ppid, name = "python", startTicks = 0, uid = 1000, cgroup = "0::/\n" }] of Object.entries(
    processes,
  )) {
    mkdirSync(join(root, pid));
    const before = Array.from({ length: 17 }, () => "0").join(" ");
    writeFileSync(join(root, pid, "stat"), `${pid} (${name}) S ${ppid} ${before} ${startTicks} 0 0\n`);
    writeFileSync(join(root, pid, "status"), `Name:\tx\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\n`);
    writeFileSync(join(root, pid, "cgroup"), cgroup);
  }
  return new ProcessTable(root, join(root, "passwd"));
}

test("a process is told with its user, its start, its forebears up to init, and its group", async () => {
  const found = await table({
    1: { ppid: 0 },
    50: { ppid: 1, startTicks: 10_000 },
    60: { ppid: 50, startTicks: 90_000 },
    70: { ppid: 60, startTicks: 99_000, cgroup: "0::/system.slice/docker-abc.scope\n" },
  }).originsOf([70], NOW);
  expect(found.get(70)).toEqual({
    user: "ada",
    // 990 s after the boot, which was 1,000 s ago.
    startedAt: NOW - 10_000,
    ancestors: [
      { pid: 60, startedAt: NOW - 100_000 },
      { pid: 50, startedAt: NOW - 900_000 },
    ],
    cgroup: "/system.slice/docker-abc.scope",
  });
});

test("a name with brackets, blanks and line ends does not shift the fields", async () => {
  const found = await table({ 9: { ppid: 4, name: ") R 1 (x\n) S 2" }, 4: { ppid: 1 } }).originsOf([9], NOW);
  expect(found.get(9)?.ancestors.map(({ pid }) => pid)).toEqual([4]);
});

test("who is not there is left out; a user without a name is a number; the root group is none", async () => {
  const found = await table({ 5: { ppid: 1, uid: 4711 } }).originsOf([5, 6], NOW);
  expect([...found.keys()]).toEqual([5]);
  expect(found.get(5)).toMatchObject({ user: "4711", cgroup: null });
});

test("of older hierarchies, systemd's names the group", async () => {
  const cgroup = "4:memory:/else\n1:name=systemd:/user.slice/session-3.scope\n0::/\n";
  const found = await table({ 5: { ppid: 1, cgroup: cgroup.replace("0::/\n", "") } }).originsOf([5], NOW);
  expect(found.get(5)?.cgroup).toBe("/user.slice/session-3.scope");
});

test("a line of descent that goes in circles ends", async () => {
  const found = await table({ 5: { ppid: 6 }, 6: { ppid: 5 } }).originsOf([5], NOW);
  expect(found.get(5)?.ancestors.length).toBe(64);
});

test("without a table, nobody has an origin", async () => {
  expect((await new ProcessTable("/nowhere", "/nowhere").originsOf([1], NOW)).size).toBe(0);
});

test.each([
  ["pid:[4026531836]", true],
  ["pid:[4026532208]", false],
  ["elsewhere", null],
  [null, null],
])("in the namespace %s it shares the host's pids: %s", async (namespace, shares) => {
  const root = mkdtempSync(join(tmpdir(), "gpu-orchestrator-proc-"));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, "self/ns"), { recursive: true });
  if (namespace !== null) symlinkSync(namespace, join(root, "self/ns/pid"));
  expect(await new ProcessTable(root).sharesHostPids()).toBe(shares);
});

test("no more processes than a bound are looked up", async () => {
  const many = Object.fromEntries(Array.from({ length: 600 }, (_, i) => [i + 2, { ppid: 1 }]));
  expect((await table(many).originsOf(Object.keys(many).map(Number), NOW)).size).toBe(512);
});

test("in life: a child of this process is told to be one", async () => {
  const child = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"]);
  onTestFinished(() => void child.kill("SIGKILL"));
  const now = Date.now();
  const found = (await new ProcessTable().originsOf([child.pid as number], now)).get(child.pid as number);
  expect(found?.ancestors[0]?.pid).toBe(process.pid);
  expect(found?.user).toBe(userInfo().username);
  expect(Math.abs((found?.startedAt ?? 0) - now)).toBeLessThan(5_000);
});
