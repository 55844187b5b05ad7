/**
 * Tells when the wall clock was set: it has then gone on by another time than a steady one. What is counted from an instant
 * on would be over too early after that, or not for as long as the clock was put back.
 */
const AT_LEAST_MS = 5_000;

export class ClockWatch {
  readonly #wallMs: () => number;
  readonly #steadyMs: () => number;
  #apartMs: number;

  constructor(wallMs: () => number, steadyMs: () => number) {
    this.#wallMs = wallMs;
    this.#steadyMs = steadyMs;
    this.#apartMs = wallMs() - steadyMs();
  }

  /** @returns by how much it was set since this was asked last; `null`: it was not. */
  setByMs(): number | null {
    const apartMs = this.#wallMs() - this.#steadyMs();
    const byMs = apartMs - this.#apartMs;
    // What is set little by little is followed.
    this.#apartMs = apartMs;
    return Math.abs(byMs) < AT_LEAST_MS ? null : Math.round(byMs);
  }
}
