/**
 * One holder that is started ahead of its run, which begins by the start of a program sooner. It waits for a line that names
 * the run's folder, holds nothing until then, and leaves when its worker does, by whatever end.
 */
import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";

/** Not beside the run that has just begun: its own start comes first. */
const AFTER_MS = 150;
/** So late when the last one has died by itself. */
const AFTER_DEATH_MS = 10_000;

export class SpareHolder {
  readonly #start: () => ChildProcess;
  #waiting: ChildProcess | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = false;

  /** @param start one whose stdin is a pipe. */
  constructor(start: () => ChildProcess) {
    this.#start = start;
    this.#startIn(AFTER_MS);
  }

  /** @returns false: there is none now. */
  take(folder: string): boolean {
    const holder = this.#waiting;
    this.#waiting = null;
    this.#startIn(AFTER_MS);
    if (holder === null || holder.exitCode !== null || holder.signalCode !== null) return false;
    holder.stdin?.end(`${folder}\n`);
    return true;
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer ?? undefined);
    this.#waiting?.stdin?.end();
    this.#waiting = null;
  }

  #startIn(ms: number): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer ?? undefined);
    this.#timer = setTimeout(() => this.#begin(), ms).unref();
  }

  #begin(): void {
    if (this.#isStopped || this.#waiting !== null) return;
    let holder: ChildProcess;
    try {
      holder = this.#start();
    } catch {
      // The host has no memory for another now, or Node is being replaced: a run starts its own, and says so if it cannot.
      this.#startIn(AFTER_DEATH_MS);
      return;
    }
    const lost = () => {
      if (this.#waiting !== holder) return;
      this.#waiting = null;
      this.#startIn(AFTER_DEATH_MS);
    };
    holder.once("error", lost);
    holder.once("exit", lost);
    holder.stdin?.on("error", () => undefined);
    // It keeps nobody running.
    holder.unref();
    (holder.stdin as Socket | null)?.unref();
    this.#waiting = holder;
  }
}
