/** The holder's own end of a run that may start elsewhere: with nobody to tell it, by a clock that nobody sets. */
import { readUptimeMark, uptimeMs } from "../platform/uptime.ts";
import { killAll, membersOf, signalMain } from "./cages.ts";
import { type Exit, type Fence, type Order, readIn, writeIn } from "./folder.ts";
import { type HolderName, type Leader, ProcessTable } from "./processes.ts";

const LOOK_MS = 500;
/** As for the worker: what forks may be between two processes in one look. */
const EMPTY_LOOKS = 3;

/** Whether a run may not begin: nothing was heard for too long, or nothing at all since the host is up. */
export function isFencedOff({ file, withinMs }: Fence): boolean {
  const heardAt = readUptimeMark(file);
  return heardAt === null || uptimeMs() - heardAt >= withinMs;
}

/**
 * Looks after a run until it is over, and ends it when it is fenced off: the signal, the grace, SIGKILL. The grace counts
 * from the deadline, not from when that is noticed: a host that slept through both has none left.
 */
export function keepFence(folder: string, order: Order, fence: Fence, holder: HolderName): void {
  let heardAt = uptimeMs();
  let child: Leader | null = null;
  let deadline: number | null = null;
  let isWritten = false;
  let emptyLooks = 0;
  const timer = setInterval(() => {
    child = readIn<Leader>(folder, "child") ?? child;
    const exit = readIn<Exit>(folder, "exit");
    if (child !== null && exit !== null) child = { ...child, ownUntilMs: exit.atUptimeMs };
    if (exit !== null || readIn(folder, "order") === null) {
      emptyLooks = membersOf(order, child, holder, new ProcessTable()).length === 0 ? emptyLooks + 1 : 0;
      if (emptyLooks >= EMPTY_LOOKS) clearInterval(timer);
    }
    if (deadline === null) {
      heardAt = readUptimeMark(fence.file) ?? heardAt;
      if (uptimeMs() - heardAt < fence.withinMs) return;
      deadline = heardAt + fence.withinMs;
      if (child !== null) signalMain(order, child, new ProcessTable(), `SIG${fence.signal}` as NodeJS.Signals);
    }
    if (!isWritten) isWritten = hasWritten(folder);
    if (uptimeMs() >= deadline + fence.graceMs) {
      killAll(order, membersOf(order, child, holder, new ProcessTable()), holder);
    }
  }, LOOK_MS);
}

/** A full disk, or a folder that is gone, keeps nobody from ending it. */
function hasWritten(folder: string): boolean {
  try {
    writeIn(folder, "fenced", { at: Date.now() });
    return true;
  } catch {
    return false;
  }
}
