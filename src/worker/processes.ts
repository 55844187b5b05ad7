/** The host's processes, as /proc shows them. A process is known by its number and its start: numbers come again. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { uptimeMs } from "../platform/uptime.ts";

export interface ProcessName {
  readonly pid: number;
  /** In clock ticks since the boot: field 22 of /proc/PID/stat. */
  readonly startTime: number;
}

export interface HolderName extends ProcessName {
  /** The control group of its transient unit, which is there as long as one in it lives; left out: it has none, or is older. */
  readonly group?: string;
  /** Which limits hold for its unit; left out: it has none, or is older. */
  readonly limits?: readonly string[];
}

/** The first process of a run. */
export interface Leader extends ProcessName {
  /**
   * When it ended or, later, when its session was last seen to be its own, by the host's uptime; left out: it lives, or
   * nobody can say.
   */
  readonly ownUntilMs?: number | undefined;
}

export interface Process extends ProcessName {
  readonly parent: number;
  readonly session: number;
}

/** `null`: there is none, or it is a zombie, which runs no more. */
export function processOf(pid: number): Process | null {
  try {
    return parseStat(pid, readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return null;
  }
}

/** A name in parentheses may hold spaces and parentheses itself: what counts stands behind the last. */
function parseStat(pid: number, text: string): Process | null {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parent, , session] = fields;
  if (state === "Z" || state === "X") return null;
  return { pid, parent: Number(parent), session: Number(session), startTime: Number(fields[19]) };
}

export function isAlive({ pid, startTime }: ProcessName): boolean {
  return processOf(pid)?.startTime === startTime;
}

/** For how long it has been there, whatever was done to the clock. */
export function ageMs({ startTime }: ProcessName): number {
  return uptimeMs() - (startTime / TICKS_PER_SECOND) * 1_000;
}

/** All that run now. One look, for all who ask in it. */
export class ProcessTable {
  readonly #processes = new Map<number, Process>();
  readonly #marks = new Map<number, string | null>();
  readonly #uptimeSeconds = uptimeMs() / 1_000;

  constructor() {
    for (const name of readdirSync("/proc")) {
      const pid = Number(name);
      if (!Number.isInteger(pid)) continue;
      const process = processOf(pid);
      if (process !== null) this.#processes.set(pid, process);
    }
  }

  /** By the host's uptime. */
  get takenAtMs(): number {
    return this.#uptimeSeconds * 1_000;
  }

  get(pid: number): Process | undefined {
    return this.#processes.get(pid);
  }

  /** The session of `leader`, its descendants, and whoever bears `mark` in its environment, wherever it has gone. */
  family(leader: Leader | null, mark: string): number[] {
    const found = new Set<number>();
    const now = leader === null ? undefined : this.#processes.get(leader.pid);
    if (leader !== null && now?.startTime === leader.startTime) {
      found.add(leader.pid);
      this.#addDescendants(leader.pid, found);
    }
    for (const { pid } of this.#processes.values()) {
      if (!found.has(pid) && this.#markOf(pid) === mark) found.add(pid);
    }
    if (leader !== null) for (const pid of this.#sessionOf(leader, found)) found.add(pid);
    return [...found];
  }

  /**
   * While a session has members its number is not given again; a process of that number and another start says that it has
   * none. When its leader has ended, and then its members, the number may be that of a stranger's session, whose leader
   * may have ended too: it is the leader's own if one of it bears the mark, or was there before the leader ended, or while
   * the session was seen to be its own, or so shortly after that the number cannot have come again.
   */
  #sessionOf({ pid: number, startTime, ownUntilMs }: Leader, marked: ReadonlySet<number>): readonly number[] {
    const now = this.#processes.get(number);
    if (now !== undefined && now.startTime !== startTime) return [];
    const members = [...this.#processes.values()].filter(({ session }) => session === number);
    const wasThere = ({ startTime: start }: Process) =>
      ownUntilMs !== undefined && (start / TICKS_PER_SECOND) * 1_000 <= ownUntilMs + NUMBER_REST_MS;
    const isOwn = now !== undefined || members.some((member) => marked.has(member.pid) || wasThere(member));
    return isOwn ? members.map(({ pid }) => pid) : [];
  }

  #addDescendants(root: number, found: Set<number>): void {
    const children = Map.groupBy(this.#processes.values(), ({ parent }) => parent);
    const open = [root];
    for (let pid = open.pop(); pid !== undefined; pid = open.pop()) {
      for (const child of children.get(pid) ?? []) {
        if (found.has(child.pid)) continue;
        found.add(child.pid);
        open.push(child.pid);
      }
    }
  }

  /** Every run whose mark some process bears. */
  marks(): Map<string, number[]> {
    const found = new Map<string, number[]>();
    for (const pid of this.#processes.keys()) {
      const mark = this.#markOf(pid);
      if (mark !== null) found.set(mark, [...(found.get(mark) ?? []), pid]);
    }
    return found;
  }

  #markOf(pid: number): string | null {
    const known = this.#marks.get(pid);
    if (known !== undefined) return known;
    const { startTime = -1 } = this.#processes.get(pid) ?? {};
    const mark = unmarked.get(pid) === startTime ? null : readMark(pid);
    if (mark === null && this.#isGrown(startTime)) noteUnmarked(pid, startTime);
    this.#marks.set(pid, mark);
    return mark;
  }

  /** Between its fork and its own program a process is as its parent, and a run's first has a parent without the mark. */
  #isGrown(startTime: number): boolean {
    return startTime / TICKS_PER_SECOND < this.#uptimeSeconds - YOUNG_SECONDS;
  }
}

/** As /proc counts them for programs, on every machine. */
const TICKS_PER_SECOND = 100;
const YOUNG_SECONDS = 15;
/** The kernel gives numbers in turn: none comes again so soon. */
const NUMBER_REST_MS = 3_000;
const MOST_UNMARKED = 65_536;
/** Processes that are none of ours, by number, with their start: so that not everybody's environment is read at every look. */
const unmarked = new Map<number, number>();

function noteUnmarked(pid: number, startTime: number): void {
  if (unmarked.size >= MOST_UNMARKED) unmarked.clear();
  unmarked.set(pid, startTime);
}

export const MARK = "GPU_ORCHESTRATOR_RUN";

function readMark(pid: number): string | null {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, "latin1");
    const start = `\0${environment}`.indexOf(`\0${MARK}=`);
    if (start === -1) return null;
    return environment.slice(start + MARK.length + 1).split("\0", 1)[0] as string;
  } catch {
    return null;
  }
}

/** Whether one of `pids` has the socket open that listens on `port`. */
export function listensOn(port: number, pids: readonly number[]): boolean {
  const sockets = new Set(["/proc/net/tcp", "/proc/net/tcp6"].flatMap((file) => listeners(file, port)));
  return sockets.size > 0 && pids.some((pid) => openFiles(pid).some((file) => sockets.has(file)));
}

const LISTENING = "0A";

function listeners(file: string, port: number): string[] {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  try {
    return readFileSync(file, "latin1")
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === LISTENING && fields[1]?.endsWith(wanted))
      .map((fields) => `socket:[${fields[9]}]`);
  } catch {
    return [];
  }
}

function openFiles(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${name}`)];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}
