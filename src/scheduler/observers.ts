import type { Observer } from "../ports/observer.ts";

/** Those who watch the scheduler, told one after the other. What one of them throws keeps nothing from the others. */
export class Observers {
  readonly #all: Observer[];
  readonly #onBug: (error: unknown) => void;

  constructor(observers: readonly Observer[], onBug: (error: unknown) => void) {
    this.#all = [...observers];
    this.#onBug = onBug;
  }

  add(observer: Observer): void {
    this.#all.push(observer);
  }

  tell(about: (observer: Observer) => void): void {
    for (const observer of this.#all) {
      try {
        about(observer);
      } catch (error) {
        this.#onBug(error);
      }
    }
  }
}
