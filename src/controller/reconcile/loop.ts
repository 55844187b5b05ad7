/**
 * The loop that makes what is there what is wanted. Level-triggered: each look sees everything anew, so a change that was
 * missed costs a look and nothing else.
 *
 *  1. One look at a time. A change of an object asks for another at once; otherwise one follows after a second.
 *  2. Nothing is written when nothing has changed: a status is compared before it is stored.
 *  3. While the backend cannot be reached nothing is decided, with growing pauses up to half a minute.
 *  4. A workload whose pass fails holds up no other.
 */
import { isDeepStrictEqual } from "node:util";
import { changedConditions, conditionsAfter, finding } from "../objects/conditions.ts";
import { ControllerError } from "../objects/errors.ts";
import { keyOf, tenantOf } from "../objects/meta.ts";
import type { History, Objects } from "../objects/store.ts";
import type { Workload } from "../objects/workload.ts";
import type { Backend, Look } from "./backend.ts";
import { type Memory, NO_MEMORIES, type Outcome, reconcile } from "./reconcile.ts";
import type { ReconcileSettings } from "./settings.ts";

const EVERY_MS = 1_000;
/** What changes together is looked at together. */
const GATHER_MS = 20;
const METRICS_MS = 60_000;
const LONGEST_PAUSE_MS = 30_000;

export interface LoopParts {
  readonly objects: Objects;
  readonly history: History;
  readonly backend: Backend;
  readonly settings: ReconcileSettings;
  /** Whether this process decides: of several controllers one does, and the others look. */
  readonly leads: () => boolean;
  readonly newId: () => string;
  readonly now: () => number;
  readonly log: {
    info(facts: object, message: string): void;
    warn(facts: object, message: string): void;
    error(facts: object, message: string): void;
  };
}

export class ReconcileLoop {
  readonly #parts: LoopParts;
  readonly #memories = new Map<string, Memory>();
  readonly #measuredAt = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> | null = null;
  #again = false;
  #stopped = false;
  #pauseMs = EVERY_MS;
  #unsubscribe: () => void = () => undefined;
  /** The last look; `null`: the backend was not reached yet. */
  seen: Look | null = null;
  /** Why the backend cannot be reached; `null`: it can. */
  trouble: string | null = "the backend has not been looked at yet";
  looks = 0;

  constructor(parts: LoopParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#unsubscribe = this.#parts.objects.subscribe(() => this.soon());
    this.soon();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unsubscribe();
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#running;
  }

  /** Asks for a look now, or after the one that is under way. */
  soon(): void {
    if (this.#stopped) return;
    if (this.#running !== null) {
      this.#again = true;
      return;
    }
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#begin(), GATHER_MS);
  }

  #begin(): void {
    this.#timer = null;
    this.#again = false;
    this.#running = this.pass().finally(() => {
      this.#running = null;
      if (this.#stopped) return;
      if (this.#again && this.trouble === null) this.soon();
      else this.#timer = setTimeout(() => this.#begin(), this.#pauseMs);
    });
  }

  /** One look, and what follows from it. Never rejects. */
  async pass(): Promise<void> {
    const { backend, objects, log } = this.#parts;
    try {
      this.seen = await backend.look();
      if (this.trouble !== null) log.info({}, "the backend answers");
      this.trouble = null;
      this.#pauseMs = EVERY_MS;
    } catch (error) {
      const message = (error as Error).message;
      if (this.trouble !== message) log.warn({ trouble: message }, "the backend cannot be looked at");
      this.trouble = message;
      this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
      return;
    }
    this.looks++;
    for (const workload of objects.workloads()) {
      // Asked before each: a pass over many can last longer than a lease.
      if (!this.#parts.leads()) return;
      try {
        await this.#one(workload, this.seen);
      } catch (error) {
        const key = keyOf(workload.metadata);
        const isExpected = error instanceof ControllerError;
        if (isExpected) log.warn({ workload: key, trouble: error.message }, "a pass was cut short");
        else log.error({ workload: key, err: error }, "a pass failed");
      }
    }
  }

  async #one(workload: Workload, look: Look): Promise<void> {
    const { objects, backend, settings, now } = this.#parts;
    const { uid } = workload.metadata;
    const tracks = look.tracksOf(workload);
    const [load, service] = [look.loadOf(workload), look.serviceOf(workload)];
    const seen = { tracks, nodes: look.nodes, models: objects.models(), load, service, now: now() };
    const decided = reconcile(workload, seen, this.#memories.get(uid) ?? NO_MEMORIES, settings);
    this.#memories.set(uid, decided.memory);
    const refusal = decided.wanted === null ? null : await refusalBy(backend.apply(workload, decided.wanted, tracks));
    const outcome = refusal === null ? decided : refused(workload, decided, refusal, seen.now);
    if (outcome.gone) {
      this.#memories.delete(uid);
      this.#measuredAt.delete(uid);
      await objects.forget(workload);
      return;
    }
    if (isDeepStrictEqual(outcome.status, workload.status) || this.#isOnlyMeasured(workload, outcome)) return;
    this.#measuredAt.set(uid, now());
    await this.#tell(workload, outcome);
    await objects.putStatus(workload, outcome.status);
  }

  /** Figures move with each look: alone they are written once a minute. */
  #isOnlyMeasured({ metadata, status }: Workload, outcome: Outcome): boolean {
    const { currentMetrics: _, ...before } = status;
    const { currentMetrics: __, ...after } = outcome.status;
    if (!isDeepStrictEqual(before, after)) return false;
    return this.#parts.now() - (this.#measuredAt.get(metadata.uid) ?? 0) < METRICS_MS;
  }

  async #tell(workload: Workload, { scaled, status }: Outcome): Promise<void> {
    const { history, newId, now } = this.#parts;
    const { name } = workload.metadata;
    const at = new Date(now()).toISOString();
    if (scaled !== null && !(await this.#isTold(name, scaled.to))) {
      history.beginScaling({
        eventId: newId(),
        deploymentId: name,
        tenantId: tenantOf(workload.metadata),
        scalingType: scaled.type,
        fromReplicas: scaled.from,
        toReplicas: scaled.to,
        triggerReason: scaled.why,
        triggerMetrics: status.currentMetrics ?? {},
        initiatedAt: at,
      });
    }
    for (const { type, status: holds, reason = "", message = "" } of changedConditions(workload.status, status)) {
      if (type === "Ready" && holds === "True") history.endScaling(name, "success", at);
      history.addEvent({ deploymentId: name, at, type: `${type}=${holds}`, reason, message });
    }
  }

  /** A hand's change through the API has its event already. */
  async #isTold(deploymentId: string, to: number): Promise<boolean> {
    const [last] = await this.#parts.history.scalings({ deploymentId, limit: 1 });
    return last?.status === "in_progress" && last.toReplicas === to;
  }
}

/** The backend's words, if it refused what was asked of it; `null`: it took it. */
async function refusalBy(applying: Promise<void>): Promise<string | null> {
  try {
    await applying;
    return null;
  } catch (error) {
    if (error instanceof ControllerError && error.code === "backend-refused") return error.message;
    throw error;
  }
}

function refused({ metadata, status: before }: Workload, outcome: Outcome, words: string, now: number): Outcome {
  const findings = [finding("Progressing", false, "BackendRefused", words)];
  // From the one before, not from this look's: it has stood for as long as it was refused.
  const old = (before.conditions ?? []).filter(({ type }) => type === "Progressing");
  const others = (outcome.status.conditions ?? []).filter(({ type }) => type !== "Progressing");
  const conditions = [...others, ...conditionsAfter(old, findings, metadata.generation, now)];
  return { ...outcome, status: { ...outcome.status, conditions } };
}
