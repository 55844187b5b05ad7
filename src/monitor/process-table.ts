/**
 * Where a process comes from, as the kernel tells it (proc(5), cgroups(7)): whose it is, who started it, and which
 * group it is in. Only pids of this machine's own numbering can be looked up; to a daemon in a container without the
 * host's pids, the driver's pids mean nothing.
 */
import { readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import type { EpochMs } from "../core/base/time.ts";
import type { ProcessOrigin } from "../core/model/reading.ts";

/** Processes looked up per reading; the others count as not looked up. */
const MAX_LOOKUPS = 512;
/** A longer line of descent is cut: nothing sane is deeper, and a table read in pieces could go in circles. */
const MAX_ANCESTORS = 64;
const MAX_CGROUP_LENGTH = 512;
/** Clock ticks per second that the kernel shows to programs: USER_HZ, 100 on every architecture with NVIDIA's driver. */
const USER_HZ = 100;

/** The kernel's number of the first namespace of pids, that of the host: PROC_PID_INIT_INO (include/linux/proc_ns.h). */
const HOST_PIDS = "pid:[4026531836]";

interface Entry {
  readonly parent: number;
  readonly startedAt: EpochMs;
}

export class ProcessTable {
  readonly #root: string;
  readonly #passwd: string;

  /** Tests put their own folder and file in. */
  constructor(root = "/proc", passwd = "/etc/passwd") {
    this.#root = root;
    this.#passwd = passwd;
  }

  /**
   * Looks up `pids` at `now`, on the daemon's clock. One that is gone, or unknown here, is left out.
   *
   * Never rejects: where there is no such table, nobody has an origin.
   */
  async originsOf(pids: Iterable<number>, now: EpochMs): Promise<ReadonlyMap<number, ProcessOrigin>> {
    const origins = new Map<number, ProcessOrigin>();
    const wanted = [...new Set(pids)].slice(0, MAX_LOOKUPS);
    if (wanted.length === 0) return origins;
    const bootedAt = await this.#bootedAt(now);
    if (bootedAt === null) return origins;
    const users = await this.#users();
    const entries = new Map<number, Promise<Entry | null>>();
    const entryOf = (pid: number) => {
      const known = entries.get(pid) ?? this.#entry(pid, bootedAt);
      entries.set(pid, known);
      return known;
    };
    for (const pid of wanted) {
      const entry = await entryOf(pid);
      if (entry === null) continue;
      const uid = await this.#uid(pid);
      origins.set(pid, {
        user: uid === null ? null : (users.get(uid) ?? String(uid)),
        startedAt: entry.startedAt,
        ancestors: await ancestorsOf(entry, entryOf),
        cgroup: await this.#cgroup(pid),
      });
    }
    return origins;
  }

  /** Whether this process sees the pids of the host; `null`: the kernel does not tell. */
  async sharesHostPids(): Promise<boolean | null> {
    const namespace = await readlink(join(this.#root, "self/ns/pid")).catch(() => null);
    return namespace === null || !/^pid:\[\d+\]$/.test(namespace) ? null : namespace === HOST_PIDS;
  }

  async #bootedAt(now: EpochMs): Promise<EpochMs | null> {
    const uptime = Number.parseFloat((await this.#read("uptime")) ?? "");
    return Number.isFinite(uptime) ? now - uptime * 1_000 : null;
  }

  /** The name, field 2 of `stat`, may hold anything, brackets and blanks too: the fields begin after the last bracket. */
  async #entry(pid: number, bootedAt: EpochMs): Promise<Entry | null> {
    const stat = await this.#read(`${pid}/stat`);
    if (stat === null) return null;
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const parent = Number(fields[1]);
    const ticks = Number(fields[19]);
    if (!Number.isSafeInteger(parent) || !Number.isFinite(ticks)) return null;
    return { parent, startedAt: Math.floor(bootedAt + (ticks * 1_000) / USER_HZ) };
  }

  async #uid(pid: number): Promise<number | null> {
    const digits = /^Uid:\t(\d+)/m.exec((await this.#read(`${pid}/status`)) ?? "")?.[1];
    return digits === undefined ? null : Number(digits);
  }

  /** The group in the unified hierarchy; of older hierarchies, the one that systemd names things in. */
  async #cgroup(pid: number): Promise<string | null> {
    const lines = ((await this.#read(`${pid}/cgroup`)) ?? "").split("\n");
    const line =
      lines.find((text) => text.startsWith("0::/")) ?? lines.find((text) => text.includes(":name=systemd:/"));
    const path = line?.slice(line.indexOf(":/") + 1);
    return path === undefined || path === "/" || path.length > MAX_CGROUP_LENGTH ? null : path;
  }

  async #users(): Promise<ReadonlyMap<number, string>> {
    const users = new Map<number, string>();
    const text = await readFile(this.#passwd, "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      const [name = "", , uid = ""] = line.split(":");
      if (/^\d+$/.test(uid) && name !== "" && !users.has(Number(uid))) users.set(Number(uid), name);
    }
    return users;
  }

  #read(path: string): Promise<string | null> {
    return readFile(join(this.#root, path), "utf8").catch(() => null);
  }
}

/** The nearest first; init, which everybody descends from, is nobody's ancestor here. */
async function ancestorsOf(
  entry: Entry,
  entryOf: (pid: number) => Promise<Entry | null>,
): Promise<ProcessOrigin["ancestors"]> {
  const ancestors: { pid: number; startedAt: EpochMs }[] = [];
  for (let pid = entry.parent; pid > 1 && ancestors.length < MAX_ANCESTORS; ) {
    const ancestor = await entryOf(pid);
    if (ancestor === null) break;
    ancestors.push({ pid, startedAt: ancestor.startedAt });
    pid = ancestor.parent;
  }
  return ancestors;
}
