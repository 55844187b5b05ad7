/** Looks at something again when that is wanted: never twice at a time, and the less often the longer it takes. */

export interface PaceParts {
  readonly now: () => number;
  readonly after: (ms: number, call: () => void) => () => void;
}

/** Several events of one turn lead to one look, in ms. */
const GATHER_MS = 60;
/** Between the starts of two looks, in ms; in between, as many times as long as the last one took. */
const MIN_GAP_MS = 150;
const MAX_GAP_MS = 700;
const GAP_FACTOR = 8;

export class Pace {
  readonly #parts: PaceParts;
  readonly #look: () => Promise<void>;
  #isLooking = false;
  #isWanted = false;
  #callOff: (() => void) | null = null;
  #nextAt = 0;

  /** @param look sees to its own failures. */
  constructor(parts: PaceParts, look: () => Promise<void>) {
    this.#parts = parts;
    this.#look = look;
  }

  /** Looks soon. */
  want(): void {
    this.#isWanted = true;
    if (this.#isLooking || this.#callOff !== null) return;
    const wait = Math.max(GATHER_MS, this.#nextAt - this.#parts.now());
    this.#callOff = this.#parts.after(wait, () => {
      this.#callOff = null;
      void this.#begin();
    });
  }

  /** What is wanted is wanted no more. */
  rest(): void {
    this.#callOff?.();
    this.#callOff = null;
    this.#isWanted = false;
  }

  async #begin(): Promise<void> {
    const { now } = this.#parts;
    this.#isLooking = true;
    this.#isWanted = false;
    const startedAt = now();
    await this.#look();
    const took = now() - startedAt;
    this.#nextAt = startedAt + Math.min(MAX_GAP_MS, Math.max(MIN_GAP_MS, took * GAP_FACTOR));
    this.#isLooking = false;
    if (this.#isWanted) this.want();
  }
}
