/** Which processes of a bound lease are left, by a table of processes in a folder. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { BoundProcess } from "../../src/core/model/allocation.ts";
import { BoundProcesses } from "../../src/monitor/bound-processes.ts";

function processTable() {
  const root = mkdtempSync(join(tmpdir(), "proc-test-"));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  return {
    processes: new BoundProcesses(root),
    put(pid: number, { parent = 1, ticks = 100 + pid, state = "S", group = pid, flags = 0 } = {}) {
      mkdirSync(join(root, `${pid}`), { recursive: true });
      const after = ["0 0 0 0", flags, ...Array.from({ length: 12 }, () => "0")].join(" ");
      writeFileSync(join(root, `${pid}`, "status"), `Name:\ta\nTgid:\t${group}\nPid:\t${pid}\n`);
      // A name may look like the end of a name.
      writeFileSync(join(root, `${pid}`, "stat"), `${pid} (a) S 1 (b) ${state} ${parent} ${after} ${ticks} 0\n`);
    },
    env: (pid: number, text: string) => writeFileSync(join(root, `${pid}`, "environ"), text),
    /** Reading it fails with an error that does not say that it is gone. */
    spoil(pid: number) {
      rmSync(join(root, `${pid}`, "stat"));
      mkdirSync(join(root, `${pid}`, "stat"));
    },
    end: (pid: number) => rmSync(join(root, `${pid}`), { recursive: true }),
  };
}

/** What the second of two looks tells. */
async function lookTwice(processes: BoundProcesses, bound: ReadonlyMap<string, BoundProcess>) {
  expect(await processes.look(bound)).toEqual([]);
  return processes.look(bound);
}

const bound = (pid: number) => new Map([["a-1", { pid, startTicks: 100 + pid }]]);

test("a lease's processes are gone with the last that came from its own, one whose parent has ended included", async () => {
  const { processes, put, end } = processTable();
  put(1);
  put(50);
  put(60, { parent: 50 });
  put(70, { parent: 60 });
  put(80);
  expect(await processes.look(bound(50))).toEqual([]);
  end(50);
  end(60);
  // It is init's child now, and is known to have come from the lease's process.
  put(70, { parent: 1 });
  expect(await processes.look(bound(50))).toEqual([]);
  end(70);
  expect(await lookTwice(processes, bound(50))).toEqual(["a-1"]);
});

test("one that was never seen to come from it is its by the lease's id in its environment", async () => {
  const { processes, put, end, env } = processTable();
  put(1);
  put(70);
  put(80);
  env(70, "HOME=/root\0GPU_ORCHESTRATOR_ALLOCATION_ID=a-1\0");
  env(80, "GPU_ORCHESTRATOR_ALLOCATION_ID=a-12\0");
  expect(await processes.look(bound(50))).toEqual([]);
  end(70);
  expect(await lookTwice(processes, bound(50))).toEqual(["a-1"]);
});

test("a number that is given again is another process", async () => {
  const { processes, put } = processTable();
  put(1);
  put(50);
  expect(processes.find(50, null)).toEqual({ pid: 50, startTicks: 150 });
  put(50, { ticks: 999 });
  expect(await lookTwice(processes, bound(50))).toEqual(["a-1"]);
});

test("a process that its parent has not noticed to have ended is gone", async () => {
  const { processes, put } = processTable();
  put(1);
  put(50, { state: "Z" });
  expect(processes.find(50, null)).toBe(null);
  expect(await lookTwice(processes, bound(50))).toEqual(["a-1"]);
});

test("one look that does not show a process that lives ends nothing, and what came from it is still known", async () => {
  const { processes, put, end } = processTable();
  put(1);
  put(50);
  put(60, { parent: 50 });
  expect(await processes.look(bound(50))).toEqual([]);
  for (const pid of [50, 60]) end(pid);
  expect(await processes.look(bound(50))).toEqual([]);
  put(50);
  put(60, { parent: 50 });
  expect(await processes.look(bound(50))).toEqual([]);
  end(50);
  put(60, { parent: 1 });
  expect(await lookTwice(processes, bound(50))).toEqual([]);
  end(60);
  expect(await lookTwice(processes, bound(50))).toEqual(["a-1"]);
});

test("a look that a process cannot be read in tells nothing, and is not one of the two", async () => {
  const { processes, put, end, spoil } = processTable();
  for (const pid of [1, 50, 80]) put(pid);
  end(50);
  expect(await processes.look(bound(50))).toEqual([]);
  spoil(80);
  expect(await lookTwice(processes, bound(50))).toEqual([]);
  end(80);
  expect(await processes.look(bound(50))).toEqual(["a-1"]);
});

test("a thread of the kernel cannot be bound to, nor one of a process", () => {
  const { processes, put } = processTable();
  put(2, { parent: 0, flags: 0x20_8040 });
  put(3, { parent: 2, flags: 0x420_8060 });
  put(50, { flags: 0x40_0100 });
  put(51, { group: 50 });
  expect([2, 3, 50, 51].map((pid) => processes.find(pid, null)?.pid ?? null)).toEqual([null, null, 50, null]);
});

test("where there is no table nobody is said to be gone", async () => {
  const processes = new BoundProcesses("/nowhere");
  expect(processes.find(50, null)).toBe(null);
  expect(await processes.look(bound(50))).toEqual([]);
});

test("leases that have ended are forgotten, and the others are told apart", async () => {
  const { processes, put, end } = processTable();
  put(1);
  for (const pid of [50, 60]) put(pid);
  const both = new Map([...bound(50), ["b-1", { pid: 60, startTicks: 160 }] as const]);
  expect(await processes.look(both)).toEqual([]);
  end(60);
  expect(await lookTwice(processes, both)).toEqual(["b-1"]);
  expect(await processes.look(bound(50))).toEqual([]);
});

test("this very process is found in the kernel's own table", () => {
  const found = new BoundProcesses().find(process.pid, process.getuid?.() ?? null);
  expect(found).toMatchObject({ pid: process.pid, startTicks: expect.any(Number) });
});
