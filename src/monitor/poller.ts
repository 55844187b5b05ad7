import type { Observation } from "../core/model/reading.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { GpuSource } from "../ports/gpu-source.ts";

/** Longest pause while probes fail: what has healed is seen within a minute. */
export const MAX_BACKOFF_MS = 60_000;
/** Shortest interval: a mistyped one must not become a busy loop. */
const MIN_INTERVAL_MS = 100;

export interface PollerOptions {
  /** The poller must be the only one to probe it, or `probeSoon` cannot promise a fresh reading. */
  readonly source: GpuSource;
  readonly clock: Clock;
  readonly refreshIntervalMs: number;
  readonly onObservation: (observation: Observation) => void;
  /** Told what `onObservation` threw, or that the source broke its promise not to reject. Polling goes on. */
  readonly onError?: (error: unknown) => void;
}

export interface Poller {
  /** Asks for a reading that begins after this call. Calls until it begins are one. */
  probeSoon(): void;
  setInterval(refreshIntervalMs: number): void;
  /** No observation is told of and no probe begins afterwards. Does not wait for a probe under way: close the source. */
  stop(): Promise<void>;
}

/**
 * Probes now, then every `refreshIntervalMs`, counted from start to start, never two at once.
 *
 * A probe that takes longer than the interval is followed by a whole one, so that `nvidia-smi`, which is not free, does
 * not run without pause. After a failure the pause is the interval, doubled with each further one up to
 * {@link MAX_BACKOFF_MS}, counted from the failure. Never throws.
 */
export function startPolling(options: PollerOptions): Poller {
  const poller = new Polling(options);
  poller.probeSoon();
  return poller;
}

class Polling implements Poller {
  readonly #options: PollerOptions;
  #intervalMs: number;
  #cancelTimer: Cancel | null = null;
  #running = false;
  #again = false;
  #stopped = false;
  /** Since the last success. */
  #failures = 0;
  #startedAt = 0;
  #finishedAt = 0;

  constructor(options: PollerOptions) {
    this.#options = options;
    this.#intervalMs = Math.max(MIN_INTERVAL_MS, options.refreshIntervalMs);
  }

  probeSoon(): void {
    if (this.#stopped) return;
    if (this.#running) this.#again = true;
    else void this.#run();
  }

  setInterval(refreshIntervalMs: number): void {
    this.#intervalMs = Math.max(MIN_INTERVAL_MS, refreshIntervalMs);
    if (this.#cancelTimer !== null) this.#arm();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#disarm();
  }

  async #run(): Promise<void> {
    this.#disarm();
    this.#running = true;
    do {
      this.#again = false;
      await this.#probe();
    } while (this.#again && !this.#stopped);
    this.#running = false;
    if (!this.#stopped) this.#arm();
  }

  async #probe(): Promise<void> {
    const { clock, source, onObservation, onError } = this.#options;
    this.#startedAt = clock.now();
    let succeeded = false;
    try {
      const observation = await source.probe();
      succeeded = observation.ok;
      if (!this.#stopped) onObservation(observation);
    } catch (error) {
      onError?.(error);
    }
    this.#failures = succeeded ? 0 : this.#failures + 1;
    this.#finishedAt = clock.now();
  }

  #arm(): void {
    this.#disarm();
    const { clock } = this.#options;
    this.#cancelTimer = clock.after(Math.max(0, this.#nextStartAt() - clock.now()), () => void this.#run());
  }

  #nextStartAt(): number {
    if (this.#failures > 0) {
      return this.#finishedAt + Math.min(MAX_BACKOFF_MS, this.#intervalMs * 2 ** (this.#failures - 1));
    }
    const outlasted = this.#finishedAt - this.#startedAt >= this.#intervalMs;
    return (outlasted ? this.#finishedAt : this.#startedAt) + this.#intervalMs;
  }

  #disarm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }
}
