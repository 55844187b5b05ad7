/**
 * Refusals in the log: whoever wonders why a service gets nothing finds there what it was told. A client that is refused
 * over and over does not fill the disk: so many lines a second, and how many were left out.
 */
const LINES_A_SECOND = 20;

export interface RefusalFacts {
  /** As the audit names it: `POST /gpu/allocate`. */
  readonly action: string;
  readonly principal: string;
  /** Of the body, if it has one. */
  readonly service_name?: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

export class RefusalLog {
  readonly #info: (facts: object, message: string) => void;
  #second = 0;
  #lines = 0;
  #leftOut = 0;

  constructor(info: (facts: object, message: string) => void) {
    this.#info = info;
  }

  /** @param nowMs of a clock that does not go back. */
  refused(facts: RefusalFacts, nowMs: number): void {
    const second = Math.floor(nowMs / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#lines = 0;
    }
    if (this.#lines >= LINES_A_SECOND) {
      this.#leftOut++;
      return;
    }
    this.#lines++;
    const leftOut = this.#leftOut === 0 ? {} : { left_out: this.#leftOut };
    this.#leftOut = 0;
    this.#info({ ...facts, ...leftOut }, "refused");
  }
}

/** Who is named in a body that may be anything; nothing that is no name goes to the log. */
export function serviceNamed(body: unknown): string | null {
  const name =
    typeof body === "object" && body !== null ? (body as { service_name?: unknown }).service_name : undefined;
  return typeof name === "string" && /^[A-Za-z0-9._-]{1,128}$/.test(name) ? name : null;
}
