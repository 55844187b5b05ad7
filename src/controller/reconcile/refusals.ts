/** What a server did not take. It is asked for the same again, since rights come and names become free, with growing pauses. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

interface Refused {
  readonly text: string;
  readonly error: Error;
  readonly until: number;
  readonly pauseMs: number;
}

export class Refusals {
  readonly #refused = new Map<string, Refused>();

  /** Calls, or throws what the same call was refused with a moment ago. */
  async asking<T>(path: string, text: string, call: () => Promise<T>): Promise<T> {
    const before = this.#refused.get(path);
    const isSame = before?.text === text;
    if (isSame && performance.now() < before.until) throw before.error;
    try {
      const answer = await call();
      this.#refused.delete(path);
      return answer;
    } catch (error) {
      const pauseMs = isSame ? Math.min(LONGEST_PAUSE_MS, before.pauseMs * 2) : FIRST_PAUSE_MS;
      this.#refused.set(path, { text, error: error as Error, until: performance.now() + pauseMs, pauseMs });
      throw error;
    }
  }

  forget(path: string): void {
    this.#refused.delete(path);
  }
}
