/**
 * What a run cannot leave: the processes that are ended with it, and the limits that hold for them.
 *
 * The first kind that works on this host is taken. Where none of the surer ones does, `session` tells a run's processes
 * by their session, their descent and the mark in their environment; a program that clears all three leaves it. After its
 * first process has ended, its session is told by those that were in it at the last look: what is begun without the mark
 * while no worker looks, and what bears none when the holder died while no worker looked, is taken for a stranger's.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { mkdir, readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { type Hierarchies, readHierarchies } from "../platform/control-groups.ts";
import type { CageRecord, Order } from "./folder.ts";
import type { HolderName, Leader, ProcessName, ProcessTable } from "./processes.ts";

export type CageKind = CageRecord["kind"];

export interface Limits {
  readonly memoryBytes: number;
  readonly cpuMillis: number;
  readonly pids: number;
}

export interface Cage extends Pick<Order, "enter" | "leave"> {
  readonly record: CageRecord;
  /** What stands before the run's own command. */
  readonly prefix: readonly string[];
  /** What stands before the holder's. */
  readonly holderPrefix: readonly string[];
}

const GROUP = "gpu-orchestrator-runs";
const SLICE = "gpu-orchestrator-runs.slice";
const CPU_PERIOD_US = 100_000;

/** The transient unit that a run's holder is started in. */
export function systemdArgv(run: string, { memoryBytes, cpuMillis, pids }: Limits, asUser: boolean): string[] {
  return [
    "systemd-run",
    ...(asUser ? ["--user"] : []),
    "--quiet",
    "--collect",
    `--unit=go-${run}`,
    `--slice=${SLICE}`,
    ...["-p", `MemoryMax=${memoryBytes}`],
    ...["-p", `CPUQuota=${Math.max(1, Math.round(cpuMillis / 10))}%`],
    ...["-p", `TasksMax=${pids}`],
    // The worker ends what is in it, and the holder is to see how, also when memory has run out.
    ...["-p", "KillMode=process"],
    ...["-p", "OOMPolicy=continue"],
    "--",
  ];
}

/** Which kind works here. @throws Error when the one that was asked for does not. */
export function chooseCage(asked: CageKind | "auto"): CageKind {
  const works: Readonly<Record<CageKind, () => boolean>> = {
    systemd: () =>
      existsSync("/run/systemd/system") && succeeds("systemd-run", ["--version"]) && process.getuid?.() === 0,
    cgroup: hasCgroupKill,
    pidns: () => succeeds("unshare", ["--pid", "--fork", "--kill-child", "--", "true"]),
    session: () => true,
  };
  const kinds = ["systemd", "cgroup", "pidns", "session"] as const;
  const found = asked === "auto" ? kinds.find((kind) => works[kind]()) : works[asked]() ? asked : undefined;
  if (found === undefined) throw new Error(`work.cage: ${asked} does not work on this host`);
  return found;
}

function succeeds(program: string, args: readonly string[]): boolean {
  return spawnSync(program, args, { stdio: "ignore", timeout: 5_000 }).status === 0;
}

function hasCgroupKill(): boolean {
  const { unified } = readHierarchies();
  if (unified === null) return false;
  const group = join(unified.mount, GROUP, "probe");
  try {
    mkdirSync(group, { recursive: true });
    const isThere = existsSync(join(group, "cgroup.kill"));
    rmdirSync(group);
    return isThere;
  } catch {
    return false;
  }
}

/** What a run in a cage of this kind begins with. The kernel takes its time to make a group: others are served meanwhile. */
export async function makeCage(kind: CageKind, run: string, limits: Limits, holder: readonly string[]): Promise<Cage> {
  if (kind === "systemd") {
    const record = { kind, groups: [], limits: ["memory", "cpu", "pids"] };
    return { record, enter: [], leave: [], prefix: [], holderPrefix: systemdArgv(run, limits, false) };
  }
  const hierarchies = readHierarchies();
  const [groups, legacy] = await Promise.all([
    kind === "cgroup" ? unifiedGroup(hierarchies, run, limits) : null,
    legacyGroups(hierarchies, run, limits),
  ]);
  const all = [...(groups === null ? [] : [groups]), ...legacy];
  return {
    record: { kind, groups: all.map(({ path }) => path), limits: [...new Set(all.flatMap((group) => group.limits))] },
    enter: all.map(({ path }) => join(path, "cgroup.procs")),
    leave: all.map(({ home }) => join(home, "cgroup.procs")),
    prefix: kind === "pidns" ? ["unshare", "--pid", "--fork", "--kill-child", "--", ...holder, "--init"] : [],
    holderPrefix: [],
  };
}

/** Where its groups would be, whether they were made or not. */
export function groupsNamed(kind: CageKind, run: string): readonly string[] {
  if (kind === "systemd") return [];
  const { unified, legacy } = readHierarchies();
  const mounts = [...legacy.values()].map(({ mount }) => mount);
  if (kind === "cgroup" && unified !== null) mounts.push(unified.mount);
  return mounts.map((mount) => join(mount, GROUP, run));
}

interface Group {
  readonly path: string;
  /** Where its holder goes back to. */
  readonly home: string;
  readonly limits: readonly string[];
}

async function unifiedGroup({ unified }: Hierarchies, run: string, limits: Limits): Promise<Group> {
  const { mount, own } = unified as NonNullable<Hierarchies["unified"]>;
  const parent = join(mount, GROUP);
  const path = join(parent, run);
  await mkdir(path, { recursive: true });
  // Refused where version 1 has the controllers; its groups have the limits then.
  for (const folder of [mount, parent]) tryWrite(join(folder, "cgroup.subtree_control"), "+memory +pids +cpu");
  const held = [
    ["memory", "memory.max", limits.memoryBytes],
    ["pids", "pids.max", limits.pids],
    ["cpu", "cpu.max", `${Math.max(1_000, limits.cpuMillis * (CPU_PERIOD_US / 1_000))} ${CPU_PERIOD_US}`],
  ].filter(([, file, value]) => tryWrite(join(path, String(file)), String(value)));
  tryWrite(join(path, "memory.oom.group"), "1");
  return { path, home: join(mount, own), limits: held.map(([name]) => String(name)) };
}

async function legacyGroups({ legacy }: Hierarchies, run: string, limits: Limits): Promise<Group[]> {
  const values: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
    pids: [["pids.max", String(limits.pids)]],
    memory: [["memory.limit_in_bytes", String(limits.memoryBytes)]],
    cpu: [
      ["cpu.cfs_period_us", String(CPU_PERIOD_US)],
      ["cpu.cfs_quota_us", String(Math.max(1_000, limits.cpuMillis * (CPU_PERIOD_US / 1_000)))],
    ],
  };
  const made = [...legacy].map(async ([name, { mount, own }]): Promise<Group[]> => {
    const path = join(mount, GROUP, run);
    try {
      await mkdir(path, { recursive: true });
    } catch {
      return [];
    }
    const holds = (values[name] ?? []).every(([file, value]) => tryWrite(join(path, file), value));
    return [{ path, home: join(mount, own), limits: holds ? [name] : [] }];
  });
  return (await Promise.all(made)).flat();
}

function tryWrite(file: string, text: string): boolean {
  try {
    writeFileSync(file, text, { flag: "r+" });
    return true;
  } catch {
    return false;
  }
}

/** All processes of a run but its holder. */
export function membersOf(
  { run, cage }: Order,
  child: Leader | null,
  holder: HolderName | null,
  table: ProcessTable,
): number[] {
  const found = new Set(table.family(child, run));
  for (const group of groupsOf(cage, holder, table))
    for (const pid of processesIn(group)) if (table.get(pid) !== undefined) found.add(pid);
  if (holder !== null) found.delete(holder.pid);
  return [...found];
}

/** Without what its holder has written down, a transient unit's group is where that is, as long as it lives. */
function groupsOf({ kind, groups }: CageRecord, holder: HolderName | null, table: ProcessTable): readonly string[] {
  if (kind !== "systemd" || holder === null) return groups;
  if (holder.group !== undefined) return [holder.group];
  return table.get(holder.pid)?.startTime === holder.startTime ? unitGroupOf(holder.pid) : [];
}

/** Of the transient unit that a process is in; empty: it cannot be told. */
export function unitGroupOf(pid: number): readonly string[] {
  const { unified } = readHierarchies();
  try {
    const own = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"))?.[1];
    return unified === null || own === undefined ? [] : [join(unified.mount, own)];
  } catch {
    return [];
  }
}

function processesIn(group: string): number[] {
  try {
    return readFileSync(join(group, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/**
 * Sends a signal to the main process: in a name space of its own, to the first that its process 1 has started. What
 * that one has adopted is younger.
 */
export function signalMain({ cage }: Order, child: ProcessName, table: ProcessTable, signal: NodeJS.Signals): void {
  if (table.get(child.pid)?.startTime !== child.startTime) return;
  const family = cage.kind === "pidns" ? table.family(child, "").flatMap((pid) => table.get(pid) ?? []) : [];
  const first = family.find(({ parent }) => parent === child.pid);
  const [main] = family
    .filter(({ parent }) => parent === first?.pid)
    .sort((a, b) => a.startTime - b.startTime || a.pid - b.pid);
  send((main ?? first ?? child).pid, signal);
}

export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) send(pid, signal);
}

/** Ends everything at once: what forks in the meantime too, where the kernel can say so. */
export function killAll({ cage }: Order, pids: readonly number[], holder: HolderName | null): void {
  // A unit's holder is in its group, and is to see how the run ends: nothing more is to begin there.
  if (holder?.group !== undefined) tryWrite(join(holder.group, "pids.max"), "0");
  for (const group of cage.groups) {
    tryWrite(join(group, "cgroup.kill"), "1");
    tryWrite(join(group, "pids.max"), "0");
  }
  signalAll(pids, "SIGKILL");
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has gone, or is another user's, which the next look shows.
  }
}

export function wasOutOfMemory({ cage }: Order): boolean {
  return cage.groups.some(hasKilledForMemory);
}

/** Of a holder in a transient unit. */
export function ownGroupWasOutOfMemory(): boolean {
  const { unified, legacy } = readHierarchies();
  const groups = [unified, legacy.get("memory") ?? null].flatMap((one) =>
    one === null ? [] : [join(one.mount, one.own)],
  );
  return groups.some(hasKilledForMemory);
}

/** Files that hold a limit, in either version of control groups, and what stands there where there is none. */
const LIMIT_FILES = {
  memory: ["memory.max", "memory.limit_in_bytes"],
  cpu: ["cpu.max", "cpu.cfs_quota_us"],
  pids: ["pids.max", "pids.max"],
} as const;
/** Without a limit version 1 of `memory` shows the most that it can count to. */
const NO_LIMIT = /^(?:max\b|-1$|9223372036854\d{6}$)/;

/** Which hold for a holder in a transient unit, and so for all that is in it: systemd takes limits that nothing can keep. */
export function ownLimits(): readonly string[] {
  const { unified, legacy } = readHierarchies();
  return Object.entries(LIMIT_FILES).flatMap(([name, [file, legacyFile]]) => {
    const group = legacy.get(name);
    const places = [
      ...(unified === null ? [] : [join(unified.mount, unified.own, file)]),
      ...(group === undefined ? [] : [join(group.mount, group.own, legacyFile)]),
    ];
    return places.some(hasLimit) ? [name] : [];
  });
}

function hasLimit(file: string): boolean {
  try {
    return !NO_LIMIT.test(readFileSync(file, "utf8").trim());
  } catch {
    return false;
  }
}

function hasKilledForMemory(group: string): boolean {
  for (const file of ["memory.events", "memory.oom_control"]) {
    try {
      const killed = /^oom_kill (\d+)$/m.exec(readFileSync(join(group, file), "utf8"))?.[1];
      if (killed !== undefined && Number(killed) > 0) return true;
    } catch {
      // It has no such file.
    }
  }
  return false;
}

/** With what is below them. One that is not empty yet, or gone, is left. */
export async function removeGroups(groups: readonly string[]): Promise<void> {
  await Promise.all(
    groups.map(async (group) => {
      try {
        const entries = await readdir(group, { withFileTypes: true });
        await removeGroups(entries.flatMap((entry) => (entry.isDirectory() ? [join(group, entry.name)] : [])));
        await rmdir(group);
      } catch {
        // Whoever looks for a stray finds it by its mark.
      }
    }),
  );
}
