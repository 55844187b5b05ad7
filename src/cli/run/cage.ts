/**
 * A control group of its own for a command, where this host has a writable cgroup v2 with `cgroup.kill` (Linux 5.14): what
 * the command starts stays in it, whatever becomes of its environment, its session and its parents.
 *
 * Everything here may fail at any time, and then does nothing: the look through /proc goes on without it.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { readHierarchies } from "../../platform/control-groups.ts";

const PREFIX = "gpuo-";
/** What a gpuo and its keeper, killed at once, have left empty is removed by a later one, when it is older than this. */
const STALE_MS = 60_000;

/** Its path; `null`: there can be none here. */
export function makeCage(allocationId: string): string | null {
  try {
    const { unified } = readHierarchies();
    if (unified === null) return null;
    const around = join(unified.mount, unified.own);
    removeStale(around);
    const cage = join(around, `${PREFIX}${allocationId}`);
    mkdirSync(cage);
    if (canUse(cage)) return cage;
    removeCage(cage);
  } catch {
    // No /proc, no rights, or a daemon of this host that has other plans with its groups.
  }
  return null;
}

function canUse(cage: string): boolean {
  if (!readdirSync(cage).includes("cgroup.kill")) return false;
  let wentAndCame = false;
  tried(() => {
    // Who may not write where it is already would not come back, and be killed with the command.
    moveInto(dirname(cage));
    moveInto(cage);
    moveInto(dirname(cage));
    wentAndCame = true;
  });
  return wentAndCame;
}

function removeStale(around: string): void {
  for (const name of readdirSync(around)) {
    const path = join(around, name);
    if (name.startsWith(PREFIX) && Date.now() - statSync(path).mtimeMs > STALE_MS) removeCage(path);
  }
}

/**
 * What `start` starts is in it from its first instruction on: this process goes in for so long. Moved afterwards, a command
 * might have started others already.
 */
export function startedIn<T>(cage: string | null, start: () => T): T {
  if (cage === null) return start();
  tried(() => moveInto(cage));
  try {
    return start();
  } finally {
    tried(() => moveInto(dirname(cage)));
  }
}

function moveInto(group: string): void {
  // 0 is who writes it.
  writeFileSync(join(group, "cgroup.procs"), "0");
}

/** Those of groups within it too. */
export function caged(cage: string): number[] {
  const pids: number[] = [];
  tried(() => {
    const lines = readFileSync(join(cage, "cgroup.procs"), "latin1").split("\n");
    // 0 is a process that this namespace of processes does not show.
    pids.push(...lines.map(Number).filter((pid) => pid > 0));
    for (const entry of readdirSync(cage, { withFileTypes: true })) {
      if (entry.isDirectory()) pids.push(...caged(join(cage, entry.name)));
    }
  });
  return pids;
}

/** SIGKILL to all in it at one instant, also to what has another user's rights. */
export function killCaged(cage: string): void {
  tried(() => writeFileSync(join(cage, "cgroup.kill"), "1"));
}

/** It is empty, or stays. */
export function removeCage(cage: string): void {
  tried(() => {
    for (const entry of readdirSync(cage, { withFileTypes: true })) {
      if (entry.isDirectory()) removeCage(join(cage, entry.name));
    }
    rmdirSync(cage);
  });
}

function tried(doing: () => void): void {
  try {
    doing();
  } catch {
    // See above.
  }
}
