/**
 * Processes that leases are bound to, by the kernel's table (proc(5)).
 *
 *  1. A process is a number and the tick in which it began: numbers are given again, both together are not before a reboot.
 *  2. A lease's processes are the one that it is bound to and all that have been seen to come from it. One whose parent
 *     has ended belongs to init, so they are collected again and again while they live.
 *  3. A process that has ended and waits for its parent to notice (a zombie) is gone: it holds no GPU.
 *  4. What was not seen in time to come from it, or before a restart of the daemon, is its all the same if its environment
 *     has the lease's id, as far as the daemon may read that. Others may run on: their GPU is looked at after the lease as
 *     after any other, and not granted while they use it.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as othersFirst } from "node:timers/promises";
import type { BoundProcess } from "../core/model/allocation.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { Processes } from "../ports/processes.ts";

/** Processes read between two turns of the event loop: about a millisecond. */
const READ_AT_ONCE = 64;

interface Entry {
  readonly parent: number;
  readonly startTicks: number;
}

export class BoundProcesses implements Processes {
  readonly #root: string;
  /** The processes of each bound lease, by number, with the tick in which they began. */
  readonly #members = new Map<AllocationId, Map<number, number>>();

  /** Tests put a folder of their own in. */
  constructor(root = "/proc") {
    this.#root = root;
  }

  find(pid: number, uid: number | null): BoundProcess | null {
    const entry = this.#entry(pid);
    const isOthers = uid !== null && uid !== 0 && this.#userOf(pid) !== uid;
    return entry === null || isOthers ? null : { pid, startTicks: entry.startTicks };
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
    if (table.size === 0) return [];
    const children = Map.groupBy(table, ([, { parent }]) => parent);
    const gone: AllocationId[] = [];
    for (const [id, { pid, startTicks }] of bound) {
      const members = this.#members.get(id) ?? new Map([[pid, startTicks]]);
      for (const [member, ticks] of members) if (table.get(member)?.startTicks !== ticks) members.delete(member);
      // A map grows while it is gone through, and what is added is gone through too.
      for (const member of members.keys()) {
        for (const [child, { startTicks: ticks }] of children.get(member) ?? []) members.set(child, ticks);
      }
      if (members.size === 0) for (const [heir, ticks] of this.#named(id, table)) members.set(heir, ticks);
      this.#members.set(id, members);
      if (members.size === 0) gone.push(id);
    }
    return gone;
  }

  /** See 4. */
  #named(id: AllocationId, table: ReadonlyMap<number, Entry>): readonly (readonly [number, number])[] {
    const variable = `\0GPU_ORCHESTRATOR_ALLOCATION_ID=${id}\0`;
    return [...table].flatMap(([pid, { startTicks }]) => {
      const text = this.#read(pid, "environ");
      return text !== null && `\0${text}`.includes(variable) ? [[pid, startTicks] as const] : [];
    });
  }

  async #table(): Promise<ReadonlyMap<number, Entry>> {
    const table = new Map<number, Entry>();
    let read = 0;
    for (const name of this.#names()) {
      const entry = this.#entry(Number(name));
      if (entry !== null) table.set(Number(name), entry);
      if (++read % READ_AT_ONCE === 0) await othersFirst();
    }
    return table;
  }

  #names(): readonly string[] {
    try {
      return readdirSync(this.#root).filter((name) => /^\d+$/.test(name));
    } catch {
      return [];
    }
  }

  /** The name, field 2 of `stat`, may hold anything, brackets and blanks too: the fields begin after the last bracket. */
  #entry(pid: number): Entry | null {
    const stat = this.#read(pid, "stat");
    if (stat === null) return null;
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state = ""] = fields;
    const [parent, startTicks] = [Number(fields[1]), Number(fields[19])];
    const isGone = state === "Z" || state === "X";
    return isGone || !Number.isSafeInteger(parent) || !Number.isSafeInteger(startTicks) ? null : { parent, startTicks };
  }

  #userOf(pid: number): number | null {
    return statSync(join(this.#root, String(pid)), { throwIfNoEntry: false })?.uid ?? null;
  }

  #read(pid: number, file: "stat" | "environ"): string | null {
    try {
      return readFileSync(join(this.#root, String(pid), file), "latin1");
    } catch {
      return null;
    }
  }
}
