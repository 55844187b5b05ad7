/** Writes what the statuses of models say, where that has changed. One that cannot be written holds up nothing else. */
import { isDeepStrictEqual } from "node:util";
import type { Model } from "../objects/model.ts";
import type { TrustedKeys } from "../objects/model-rules.ts";
import type { Objects } from "../objects/store.ts";
import { modelStatus } from "./models.ts";

const FIRST_REST_MS = 1_000;
const LONGEST_REST_MS = 300_000;

interface Parts {
  readonly objects: Objects;
  readonly trusted: TrustedKeys;
  readonly log: { warn(facts: object, message: string): void };
}

export class ModelStatuses {
  readonly #parts: Parts;
  /** By uid of models whose status could not be written. */
  readonly #resting = new Map<string, { readonly until: number; readonly pauseMs: number }>();
  #before: readonly Model[] = [];

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The same list as before where no model is another: what was decided by it need not be decided again. */
  sameAsBefore(models: readonly Model[]): readonly Model[] {
    const isSame =
      models.length === this.#before.length &&
      models.every(({ metadata: { uid, generation } }, index) => {
        const before = this.#before[index]?.metadata;
        return before?.uid === uid && before.generation === generation;
      });
    if (!isSame) this.#before = models;
    return this.#before;
  }

  async write(now: number): Promise<void> {
    const { objects, trusted, log } = this.#parts;
    const models = objects.models();
    if (models.length === 0) return this.#resting.clear();
    const workloads = objects.workloads();
    for (const model of models) {
      const { uid, name } = model.metadata;
      const rest = this.#resting.get(uid);
      if (rest !== undefined && now < rest.until) continue;
      try {
        const status = modelStatus(model, models, workloads, trusted, now);
        if (isDeepStrictEqual(status, model.status)) continue;
        await objects.putModelStatus(model, status);
        this.#resting.delete(uid);
      } catch (error) {
        const pauseMs = Math.min(LONGEST_REST_MS, (rest?.pauseMs ?? FIRST_REST_MS / 2) * 2);
        this.#resting.set(uid, { until: now + pauseMs, pauseMs });
        const trouble = (error as Error).message;
        log.warn({ model: name, trouble, pause_ms: pauseMs }, "the status of a model could not be written");
      }
    }
  }
}
