/**
 * What keeps the scheduler going by itself: a wake-up for the next deadline, a safety net in case that fails, and a beat
 * by which the daemon sees that it runs.
 *
 *  1. Time in which the daemon stood still, or could store nothing, counts as absence: nobody could renew or claim, so
 *     what fell due in it gets its grace before it expires.
 *  2. The beat sees an absence, and so does every turn for itself: it does not matter what runs first after a pause.
 *  3. A tick that is refused is not lost: the safety net comes again.
 */
import type { EpochMs } from "../core/base/time.ts";
import { type HostState, nextDeadline, nextWindowChange } from "../core/host/state.ts";
import type { Cancel, Clock } from "../platform/clock.ts";

/**
 * How often the daemon sees that it runs, and the silence that tells a pause (SIGSTOP, suspend) from a busy moment. No
 * TTL that can be asked for is shorter: a pause that is longer than the TTL is always seen.
 */
const BEAT_MS = 500;

const PAUSE_MS = 1_000;

export interface PulseParts {
  readonly clock: Clock;
  /** Time between two rounds of the safety net. */
  readonly intervalMs: number;
  /** Has a turn look for what is due. */
  readonly tick: () => void;
  /** Whether the store refused the last turn. */
  readonly storageFailed: () => boolean;
  /** Whether windows must be looked up in the calendar again, which a turn does. */
  readonly windowsAreStale: (now: EpochMs) => boolean;
  /** Runs with each round of the safety net. */
  readonly onRound: () => void;
}

export class Pulse {
  readonly #parts: PulseParts;
  #intervalMs: number;
  #stopped = false;
  #wake: { readonly at: EpochMs; readonly cancel: Cancel } | null = null;
  #safetyNet: Cancel | null = null;
  #nextBeat: Cancel | null = null;
  /** When the daemon was last seen to run; `null` until it serves. */
  #lastBeat: EpochMs | null = null;
  /** Of which no turn has been told yet. */
  #wasAbsent = false;

  constructor(parts: PulseParts) {
    this.#parts = parts;
    this.#intervalMs = parts.intervalMs;
  }

  /** From here on standing still is absence. */
  serve(): void {
    this.#lastBeat = this.#parts.clock.now();
  }

  /** Starts the safety net and the beat. The wake-up is set by turns. */
  start(): void {
    this.#armSafetyNet();
    this.#armBeat();
  }

  stop(): void {
    this.#stopped = true;
    this.#safetyNet?.();
    this.#nextBeat?.();
    this.#wake?.cancel();
  }

  /** Holds from the next round of the safety net on. */
  setInterval(intervalMs: number): void {
    this.#intervalMs = intervalMs;
  }

  /** Whether there was an absence that no turn has been told of; the caller is. */
  takeAbsence(now: EpochMs): boolean {
    this.#sees(now);
    const wasAbsent = this.#wasAbsent;
    this.#wasAbsent = false;
    return wasAbsent;
  }

  /** Sets the wake-up for what is next to happen in `state`. */
  wakeFor(state: HostState): void {
    if (this.#stopped) return;
    const { clock, tick } = this.#parts;
    const due = nextDeadline(state) ?? Infinity;
    // What a window kept, others may have when it closes.
    const change = nextWindowChange(state, clock.now()) ?? Infinity;
    const at = Math.min(due, change) === Infinity ? null : Math.min(due, change);
    if (at === (this.#wake?.at ?? null)) return;
    this.#wake?.cancel();
    this.#wake = null;
    if (at === null) return;
    const cancel = clock.after(at - clock.now(), () => {
      this.#wake = null;
      tick();
    });
    this.#wake = { at, cancel };
  }

  #armSafetyNet(): void {
    if (this.#stopped) return;
    const { clock, tick, storageFailed, onRound } = this.#parts;
    this.#safetyNet = clock.after(this.#intervalMs, () => {
      // With something to write down the tick finds out whether the store takes changes again.
      if (storageFailed()) this.#wasAbsent = true;
      tick();
      onRound();
      this.#armSafetyNet();
    });
  }

  #armBeat(): void {
    if (this.#stopped) return;
    const { clock, tick, windowsAreStale } = this.#parts;
    this.#nextBeat = clock.after(BEAT_MS, () => {
      const now = clock.now();
      const paused = this.#sees(now);
      if (paused || windowsAreStale(now)) tick();
      this.#armBeat();
    });
  }

  /** Takes down that the daemon runs. @returns whether it stood still since it was last seen to. */
  #sees(now: EpochMs): boolean {
    const last = this.#lastBeat;
    if (last === null) return false;
    this.#lastBeat = now;
    if (now - last <= PAUSE_MS) return false;
    this.#wasAbsent = true;
    return true;
  }
}
