/** SIGTERM gives back what a program holds, and then ends it as it would have. */

interface Held {
  release(): Promise<void>;
}

/** How long the end is put off while the daemon does not answer; what is not given back ends by its TTL. */
const PATIENCE_MS = 5_000;

/**
 * The leases of this process. It listens only while there are some, and leaves the signal to a program that has a handler
 * of its own: that one says what SIGTERM means.
 */
export class HeldUntilTerm {
  readonly #held = new Set<Held>();
  readonly #term = () => {
    if (process.listenerCount("SIGTERM") === 1) void this.#leave();
  };

  add(lease: Held): void {
    if (this.#held.size === 0) process.on("SIGTERM", this.#term);
    this.#held.add(lease);
  }

  delete(lease: Held): void {
    if (this.#held.delete(lease) && this.#held.size === 0) process.off("SIGTERM", this.#term);
  }

  async #leave(): Promise<void> {
    const released = Promise.allSettled([...this.#held].map((lease) => lease.release()));
    await Promise.race([released, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
    process.off("SIGTERM", this.#term);
    process.kill(process.pid, "SIGTERM");
  }
}
