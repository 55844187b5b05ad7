/** Tells those who wait that there is something newer. It is the latest that counts: who is slow misses what was between. */

export class News {
  readonly #listeners = new Set<() => void>();
  #version = 0;

  /** Grows with all that is told. */
  get version(): number {
    return this.#version;
  }

  tell(): void {
    this.#version++;
    for (const listener of [...this.#listeners]) listener();
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
}
