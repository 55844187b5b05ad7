/**
 * The latest reading as those who follow it are told of it.
 *
 *  1. Readers pull: one that is slow misses readings, and is given the latest when it comes for more.
 *  2. The text is made once for all of them, and not at all while nobody reads.
 *  3. States change without a reading too: a lease begins, a reading grows stale. While somebody reads, they are looked
 *     at each second.
 */
import { ailing, blockOf } from "../../core/host/condition.ts";
import type { Observer } from "../../ports/observer.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import { readingView } from "./views.ts";

const LOOK_INTERVAL_MS = 1_000;

export class ReadingFeed implements Observer {
  readonly #scheduler: Scheduler;
  readonly #listeners = new Set<() => void>();
  #readers = 0;
  #stopLooking: (() => void) | null = null;
  /** Grows with every change that readers are told of. */
  #version = 0;
  #states = "";
  #text: { readonly version: number; readonly json: string } | null = null;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
    scheduler.observeWith(this);
  }

  get version(): number {
    return this.#version;
  }

  /** Somebody reads from now on. To be closed. */
  open(): void {
    this.#readers++;
    if (this.#readers > 1) return;
    this.#states = this.#statesNow();
    this.#version++;
    const timer = setInterval(() => this.#look(), LOOK_INTERVAL_MS).unref();
    this.#stopLooking = () => clearInterval(timer);
  }

  close(): void {
    this.#readers--;
    if (this.#readers > 0) return;
    this.#stopLooking?.();
    this.#text = null;
  }

  observed(): void {
    this.#news();
  }

  storage(): void {
    this.#news();
  }

  /** How the GPUs are now, as JSON text. */
  latest(): string {
    if (this.#text?.version !== this.#version) {
      this.#text = { version: this.#version, json: JSON.stringify(readingView(this.#scheduler)) };
    }
    return this.#text.json;
  }

  /** Waits for something newer than `version`, for `patienceMs`, or until `signal`. */
  next(version: number, patienceMs: number, signal: AbortSignal): Promise<"news" | "none"> {
    if (version < this.#version) return Promise.resolve("news");
    return new Promise((resolve) => {
      const end = (how: "news" | "none") => {
        clearTimeout(timer);
        this.#listeners.delete(heard);
        signal.removeEventListener("abort", stopped);
        resolve(how);
      };
      const heard = () => end("news");
      const stopped = () => end("none");
      const timer = setTimeout(stopped, patienceMs);
      this.#listeners.add(heard);
      signal.addEventListener("abort", stopped);
      if (signal.aborted) stopped();
    });
  }

  #look(): void {
    if (this.#statesNow() !== this.#states) this.#news();
  }

  #news(): void {
    this.#version++;
    if (this.#readers === 0) return;
    this.#states = this.#statesNow();
    for (const listener of [...this.#listeners]) listener();
  }

  #statesNow(): string {
    const { state } = this.#scheduler;
    const now = this.#scheduler.now();
    let all = "";
    for (const gpu of state.gpus.values()) {
      const blocked = blockOf(gpu, state, now);
      const ailment = ailing(gpu, state, now);
      all += `${gpu.uuid} ${blocked?.block ?? "free"} ${blocked?.since ?? ""} ${ailment?.block ?? ""}\n`;
    }
    return all;
  }
}
