/**
 * Processes that leases are bound to, by the kernel's table (proc(5)).
 *
 *  1. A process is a number and the tick in which it began: numbers are given again, both together are not before a reboot.
 *  2. A lease's processes are the one that it is bound to and all that have been seen to come from it. One whose parent
 *     has ended belongs to init, so they are collected again and again while they live.
 *  3. A process that has ended and waits for its parent to notice (a zombie) is gone: it holds no GPU.
 *  4. When none of those is left, a process that was not seen to come from them (it was too quick, or the daemon was down)
 *     is the lease's if its environment has the lease's id, where the daemon may read that. Any other may outlive the
 *     lease: its GPU is looked at as after any lease, and not granted while it is used.
 *  5. The kernel's list is not of one instant, and may lack a process that lives: one is gone when two looks in a row do not
 *     show it. A look that could not read a process for another reason than that it is gone tells nothing.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as othersFirst } from "node:timers/promises";
import type { BoundProcess } from "../core/model/allocation.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { Processes } from "../ports/processes.ts";

/** Processes read between two turns of the event loop: about a millisecond. */
const READ_AT_ONCE = 64;

/** In the flags of `stat`: a thread of the kernel itself (PF_KTHREAD). It ends with the host. */
const KERNEL_THREAD = 0x0020_0000;

interface Entry {
  readonly parent: number;
  readonly startTicks: number;
  readonly isOfKernel: boolean;
}

/** One that is there, and that this user may not read (proc(5), hidepid). */
const HIDDEN: Entry = { parent: -1, startTicks: -1, isOfKernel: false };

interface Member {
  readonly startTicks: number;
  /** The last look did not show it, see 5. */
  readonly isMissed: boolean;
}

export class BoundProcesses implements Processes {
  readonly #root: string;
  /** The processes of each bound lease, by number. */
  readonly #members = new Map<AllocationId, Map<number, Member>>();

  /** Tests put a folder of their own in. */
  constructor(root = "/proc") {
    this.#root = root;
  }

  find(pid: number, uid: number | null): BoundProcess | null {
    const entry = this.#seen(pid);
    if (entry === null || entry.isOfKernel || this.#groupOf(pid) !== pid) return null;
    const isOthers = uid !== null && uid !== 0 && this.#userOf(pid) !== uid;
    return isOthers ? null : { pid, startTicks: entry.startTicks };
  }

  /**
   * Looks once at all processes.
   *
   * @param bound the leases that are bound now, each to its process.
   * @returns those of which no process is left.
   */
  async look(bound: ReadonlyMap<AllocationId, BoundProcess>): Promise<readonly AllocationId[]> {
    for (const id of this.#members.keys()) if (!bound.has(id)) this.#members.delete(id);
    if (bound.size === 0) return [];
    const table = await this.#table();
    // Without a table nobody can be told to be gone.
    if (table === null || table.size === 0) return [];
    const children = Map.groupBy(table, ([, { parent }]) => parent);
    const gone: AllocationId[] = [];
    for (const [id, { pid, startTicks }] of bound) {
      const members = this.#members.get(id) ?? new Map([[pid, { startTicks, isMissed: false }]]);
      this.#members.set(id, members);
      followed(members, table);
      // A map grows while it is gone through, and what is added is gone through too.
      for (const [member, { isMissed }] of members) {
        for (const [child, entry] of (isMissed ? undefined : children.get(member)) ?? [])
          members.set(child, shown(entry));
      }
      const isLeft = [...members.values()].some(({ isMissed }) => !isMissed);
      if (!isLeft) for (const [heir, entry] of this.#named(id, table)) members.set(heir, shown(entry));
      if (members.size === 0) gone.push(id);
    }
    return gone;
  }

  /** See 4. */
  #named(id: AllocationId, table: ReadonlyMap<number, Entry>): readonly (readonly [number, Entry])[] {
    const variable = `\0GPU_ORCHESTRATOR_ALLOCATION_ID=${id}\0`;
    return [...table].filter(([pid]) => `\0${this.#readable(pid, "environ") ?? ""}`.includes(variable));
  }

  /** `null`: it could not be read whole, see 5. */
  async #table(): Promise<ReadonlyMap<number, Entry> | null> {
    const table = new Map<number, Entry>();
    let read = 0;
    try {
      for (const name of readdirSync(this.#root)) {
        if (!/^\d+$/.test(name)) continue;
        const entry = this.#entry(Number(name));
        if (entry !== null) table.set(Number(name), entry);
        if (++read % READ_AT_ONCE === 0) await othersFirst();
      }
    } catch {
      return null;
    }
    return table;
  }

  /** `null`: it cannot be seen, for whatever reason. */
  #seen(pid: number): Entry | null {
    try {
      const entry = this.#entry(pid);
      return entry === HIDDEN ? null : entry;
    } catch {
      return null;
    }
  }

  /**
   * The name, field 2 of `stat`, may hold anything, brackets and blanks too: the fields begin after the last bracket.
   *
   * @returns `null` when it has ended.
   */
  #entry(pid: number): Entry | null {
    let stat: string;
    try {
      stat = this.#read(pid, "stat");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ESRCH") return null;
      if (code === "EACCES" || code === "EPERM") return HIDDEN;
      throw error;
    }
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state = ""] = fields;
    const [parent, flags, startTicks] = [Number(fields[1]), Number(fields[6]), Number(fields[19])];
    const isGone = state === "Z" || state === "X";
    if (isGone || !Number.isSafeInteger(parent) || !Number.isSafeInteger(startTicks)) return null;
    return { parent, startTicks, isOfKernel: (flags & KERNEL_THREAD) !== 0 };
  }

  #userOf(pid: number): number | null {
    return statSync(join(this.#root, String(pid)), { throwIfNoEntry: false })?.uid ?? null;
  }

  /** The process that a thread belongs to: the kernel shows threads by number too, where they are not listed. */
  #groupOf(pid: number): number | null {
    const group = /^Tgid:\s*(\d+)$/m.exec(this.#readable(pid, "status") ?? "")?.[1];
    return group === undefined ? null : Number(group);
  }

  #readable(pid: number, file: "environ" | "status"): string | null {
    try {
      return this.#read(pid, file);
    } catch {
      return null;
    }
  }

  #read(pid: number, file: "stat" | "environ" | "status"): string {
    return readFileSync(join(this.#root, String(pid), file), "latin1");
  }
}

/** Takes those out of `members` that `table` does not show, see 5. */
function followed(members: Map<number, Member>, table: ReadonlyMap<number, Entry>): void {
  for (const [pid, member] of members) {
    const entry = table.get(pid);
    if (entry === HIDDEN || entry?.startTicks === member.startTicks) members.set(pid, { ...member, isMissed: false });
    else if (member.isMissed) members.delete(pid);
    else members.set(pid, { ...member, isMissed: true });
  }
}

function shown({ startTicks }: Entry): Member {
  return { startTicks, isMissed: false };
}
