/**
 * The processes of a lease, as /proc shows them: what comes from its command, what bears its id in its environment, and
 * what is in its control group where it has one.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { caged, killCaged } from "./cage.ts";

const POLL_MS = 100;
/** Field 22 of /proc/PID/stat, where the state is field 3. */
const START_FIELD = 22 - 3;
/** A process in uninterruptible sleep may outlive SIGKILL; the daemon then keeps the GPU back until it is gone. */
const AFTER_KILL_MS = 30_000;
/** What a command's environment is marked with. */
export const ALLOCATION_VARIABLE = "GPU_ORCHESTRATOR_ALLOCATION_ID";

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  /** In clock ticks since the boot: with the number it names one process, since numbers come again. */
  readonly startTime: number;
}

export interface Root {
  readonly pid: number;
  /** `null` where there is no /proc. */
  readonly startTime: number | null;
  /** Whether it leads a process group of its own, so that the group is all its. */
  readonly leads: boolean;
}

export interface Family {
  readonly allocationId: string;
  /** The command; `null` while it has not been started. */
  readonly root: Root | null;
  /** Never signalled: the keeper and gpuo themselves. */
  readonly spared: readonly number[];
  /** The command's control group; `null`: it has none of its own. */
  readonly cage: string | null;
}

/** @param pid a child that has just been started, and whose end has not been seen: the number is its own still. */
export function rootOf(pid: number, leads: boolean): Root {
  return { pid, startTime: startTimeOf(pid), leads };
}

/** Whether it is still the process that was started. */
export function isThere({ pid, startTime }: Root): boolean {
  return startTime === null ? isAlive(pid) : startTimeOf(pid) === startTime;
}

/** Those that are left, zombies aside. Without /proc only the command itself. */
export function membersOf(family: Family): number[] {
  const all = processes();
  const { root } = family;
  if (all === null) return root !== null && isAlive(root.pid) ? [root.pid] : [];
  const byParent = Map.groupBy(all, ({ parent }) => parent);
  const members = new Set<number>();
  const add = (pid: number): void => {
    if (members.has(pid)) return;
    members.add(pid);
    for (const child of byParent.get(pid) ?? []) add(child.pid);
  };
  const kept = new Set(family.cage === null ? [] : caged(family.cage));
  const mark = Buffer.from(`\0${ALLOCATION_VARIABLE}=${family.allocationId}\0`);
  // While a group has members its number is not given again: a process of that number and another start says that the
  // command and its group have gone.
  const isAnothers = all.some(({ pid, startTime }) => pid === root?.pid && startTime !== root.startTime);
  for (const { pid, group } of all) {
    const isRoots = root !== null && !isAnothers && (pid === root.pid || (root.leads && group === root.pid));
    if (isRoots || kept.has(pid) || bears(pid, mark)) add(pid);
  }
  for (const pid of family.spared) members.delete(pid);
  return [...members];
}

function processes(): Process[] | null {
  let names: string[];
  try {
    names = readdirSync("/proc");
  } catch {
    return null;
  }
  return names.filter((name) => /^\d+$/.test(name)).flatMap((name) => readProcess(Number(name)) ?? []);
}

function readProcess(pid: number): Process | null {
  const fields = statOf(pid);
  if (fields === null) return null;
  const [state, parent, group] = fields;
  const startTime = Number(fields[START_FIELD]);
  return state === "Z" || state === "X" ? null : { pid, parent: Number(parent), group: Number(group), startTime };
}

/** A name may have spaces and parentheses: the fields begin after the last one, with the third, the state. */
function statOf(pid: number | "self"): readonly string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return null;
  }
}

/** @param pid `self` is this process even where /proc is that of another pid namespace. */
export function startTimeOf(pid: number | "self"): number | null {
  const fields = statOf(pid);
  return fields === null ? null : Number(fields[START_FIELD]);
}

function bears(pid: number, mark: Buffer): boolean {
  try {
    const path = `/proc/${pid}/environ`;
    // Root may read everybody's; only this user's are meant.
    if (process.getuid !== undefined && statSync(`/proc/${pid}`).uid !== process.getuid()) return false;
    // The mark begins with the zero that ends the variable before it; the first has none.
    return Buffer.concat([Buffer.of(0), readFileSync(path)]).includes(mark);
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // Gone already, or somebody else's by now.
    }
  }
}

/** @param members of the family, as they were just seen. */
export function killAll({ cage }: Family, members: readonly number[]): void {
  if (cage !== null) killCaged(cage);
  signalAll(members, "SIGKILL");
}

/**
 * Ends a family: SIGTERM, and SIGKILL to what is there after `graceMs`; again and again, since a process may have been
 * started while its parent was looked at.
 *
 * @param hurry is aborted when there is no more time: SIGKILL at once.
 * @returns what could not be ended.
 */
export async function endAll(family: Family, graceMs: number, hurry: AbortSignal): Promise<number[]> {
  const killAt = performance.now() + graceMs;
  const told = new Set<number>();
  for (;;) {
    const left = membersOf(family);
    const isLate = performance.now() >= killAt || hurry.aborted;
    if (left.length === 0 || performance.now() > killAt + AFTER_KILL_MS) return left;
    if (isLate) killAll(family, left);
    else {
      const fresh = left.filter((pid) => !told.has(pid));
      signalAll(fresh, "SIGTERM");
      // What is stopped would never see it.
      signalAll(fresh, "SIGCONT");
      for (const pid of fresh) told.add(pid);
    }
    await new Promise((resolve) => setTimeout(resolve, told.size === 0 ? 10 : POLL_MS));
  }
}
