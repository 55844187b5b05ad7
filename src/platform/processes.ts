/** Who has what on this host, as far as /proc tells: for messages to people. Where it does not tell, nothing is said. */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { userInfo } from "node:os";

/** In hex, as /proc/net/tcp has it. */
const LISTENING = "0A";

export interface NamedProcess {
  readonly pid: number;
  /** `null`: it does not say. */
  readonly name: string | null;
}

/** The process that listens on a TCP port; `null`: nobody, or it is not shown to this user. */
export function listenerOn(port: number): NamedProcess | null {
  const inodes = new Set(["/proc/net/tcp", "/proc/net/tcp6"].flatMap((table) => listeningInodes(table, port)));
  if (inodes.size === 0) return null;
  const pid = numbersIn("/proc").find((one) => socketsOf(one).some((inode) => inodes.has(inode)));
  return pid === undefined ? null : { pid, name: nameOf(pid) };
}

function listeningInodes(table: string, port: number): string[] {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return linesOf(table).flatMap((line) => {
    const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
    return state === LISTENING && local.endsWith(wanted) ? [inode] : [];
  });
}

function socketsOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return numbersIn(folder).flatMap((descriptor) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`${folder}/${descriptor}`))?.[1] ?? [];
    } catch {
      return [];
    }
  });
}

/** The process that has locked a file against others; `null`: nobody that is shown. */
export function lockerOf(file: string): NamedProcess | null {
  const inode = statSync(file, { throwIfNoEntry: false })?.ino;
  for (const line of linesOf("/proc/locks")) {
    const [, kind, , access, pid = "", where = ""] = line.trim().split(/\s+/);
    if (kind !== "POSIX" || access !== "WRITE" || !where.endsWith(`:${inode}`)) continue;
    // 0: it is in another name space.
    if (Number(pid) > 0) return { pid: Number(pid), name: nameOf(Number(pid)) };
  }
  return null;
}

function nameOf(pid: number): string | null {
  const [title = ""] = linesOf(`/proc/${pid}/cmdline`)[0]?.split("\0") ?? [];
  const program = title.split("/").at(-1) ?? "";
  return program === "" ? (linesOf(`/proc/${pid}/comm`)[0] ?? null) : program;
}

/** `pid 12 (node)`. */
export function inWords({ pid, name }: NamedProcess): string {
  return name === null ? `pid ${pid}` : `pid ${pid} (${name})`;
}

/** The name of a user of this host, or its number. */
export function userName(uid: number): string {
  const entry = linesOf("/etc/passwd").find((line) => line.split(":")[2] === String(uid));
  return entry?.split(":")[0] ?? `uid ${uid}`;
}

/** Who this process is. */
export function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user may have no entry.
    return `uid ${process.getuid?.() ?? "?"}`;
  }
}

function linesOf(file: string): string[] {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line !== "");
  } catch {
    return [];
  }
}

function numbersIn(folder: string): number[] {
  try {
    return readdirSync(folder)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}
