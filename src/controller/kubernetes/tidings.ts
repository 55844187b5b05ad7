/**
 * Events of the cluster, one after the other, beside what matters more: nobody waits for them, they leave the pace to other
 * writes, and one that fails is not told again. Of too many the oldest are dropped.
 */
import type { Condition } from "../objects/workload.ts";
import type { KubeConnection } from "./connection.ts";
import { type Regarding, tellCondition } from "./events.ts";

const MAX_WAITING = 1_000;

export class Tidings {
  readonly #connection: KubeConnection;
  readonly #waiting: { readonly of: Regarding; readonly condition: Condition }[] = [];
  #telling: Promise<void> | null = null;
  #isStopped = false;

  constructor(connection: KubeConnection) {
    this.#connection = connection;
  }

  tell(of: Regarding, condition: Condition): void {
    if (this.#isStopped) return;
    this.#waiting.push({ of, condition });
    if (this.#waiting.length > MAX_WAITING) this.#waiting.shift();
    this.#telling ??= this.#tellAll().finally(() => {
      this.#telling = null;
    });
  }

  /** What still waits is not told: another controller may lead already. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#waiting.length = 0;
  }

  async #tellAll(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      await this.#connection.leisure();
      if (this.#isStopped) return;
      await tellCondition(this.#connection, next.of, next.condition).catch(() => undefined);
    }
  }
}
