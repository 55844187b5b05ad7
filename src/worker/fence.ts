/** The holder's own end of a run that may start elsewhere: with nobody to tell it, by a clock that nobody sets. */
import { readFileSync } from "node:fs";
import { uptimeMs } from "../platform/uptime.ts";
import { killAll, membersOf, signalMain } from "./cages.ts";
import { type Fence, type Order, readIn, writeIn } from "./folder.ts";
import { type ProcessName, ProcessTable } from "./processes.ts";

const LOOK_MS = 500;
/** As for the worker: what forks may be between two processes in one look. */
const EMPTY_LOOKS = 3;

/** Whether nothing was heard for too long. Who never heard of anybody counts from `since`. */
export function isFencedOff({ file, withinMs }: Fence, since: number): boolean {
  return uptimeMs() - heardAt(file, since) >= withinMs;
}

function heardAt(file: string, since: number): number {
  try {
    const { uptimeMs: at } = JSON.parse(readFileSync(file, "utf8")) as { readonly uptimeMs: unknown };
    return typeof at === "number" ? at : since;
  } catch {
    return since;
  }
}

/** Looks after a run until it is over, and ends it when it is fenced off: the signal, the grace, SIGKILL. */
export function keepFence(folder: string, order: Order, fence: Fence, holder: ProcessName): void {
  const since = uptimeMs();
  let endingSince: number | null = null;
  let emptyLooks = 0;
  const timer = setInterval(() => {
    const child = readIn<ProcessName>(folder, "child");
    if (readIn(folder, "exit") !== null) {
      emptyLooks = membersOf(order, child, holder, new ProcessTable()).length === 0 ? emptyLooks + 1 : 0;
      if (emptyLooks >= EMPTY_LOOKS) clearInterval(timer);
    }
    if (endingSince === null) {
      if (!isFencedOff(fence, since)) return;
      endingSince = uptimeMs();
      writeIn(folder, "fenced", { at: Date.now() });
      if (child !== null) signalMain(order, child, new ProcessTable(), `SIG${fence.signal}` as NodeJS.Signals);
    }
    if (uptimeMs() - endingSince < fence.graceMs) return;
    killAll(order, membersOf(order, child, holder, new ProcessTable()));
  }, LOOK_MS);
}
