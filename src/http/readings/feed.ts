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
import { News } from "../exchange/news.ts";
import { readingView } from "./views.ts";

const LOOK_INTERVAL_MS = 1_000;

export class ReadingFeed implements Observer {
  readonly news = new News();
  readonly #scheduler: Scheduler;
  #readers = 0;
  #stopLooking: (() => void) | null = null;
  #states = "";
  #text: { readonly version: number; readonly json: string } | null = null;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
    scheduler.observeWith(this);
  }

  /** Somebody reads from now on. To be closed. */
  open(): void {
    this.#readers++;
    if (this.#readers > 1) return;
    this.#states = this.#statesNow();
    this.news.tell();
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
    this.#tell();
  }

  storage(): void {
    this.#tell();
  }

  /** How the GPUs are now, as JSON text. */
  latest(): string {
    const { version } = this.news;
    if (this.#text?.version !== version) {
      this.#text = { version, json: JSON.stringify(readingView(this.#scheduler)) };
    }
    return this.#text.json;
  }

  #look(): void {
    if (this.#statesNow() !== this.#states) this.#tell();
  }

  #tell(): void {
    if (this.#readers > 0) this.#states = this.#statesNow();
    this.news.tell();
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
