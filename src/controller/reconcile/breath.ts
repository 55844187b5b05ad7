/** Lets everything else have the thread when work side by side has gone on for so long without a pause. */
const AT_LEAST_EVERY_MS = 10;

export class Breath {
  #since = performance.now();
  #drawing: Promise<void> | null = null;

  /** Awaited between two pieces of work by all that work side by side: one that went on would keep the others from it. */
  drawn(): Promise<void> | null {
    if (this.#drawing === null && performance.now() - this.#since >= AT_LEAST_EVERY_MS) {
      this.#drawing = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
        this.#since = performance.now();
        this.#drawing = null;
      });
    }
    return this.#drawing;
  }
}
