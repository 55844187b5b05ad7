/**
 * The loop that makes what is there what is wanted. Level-triggered: each look sees everything anew, so a change that was
 * missed costs a look and nothing else.
 *
 *  1. One look at a time. A change of an object asks for another at once; otherwise one follows after a second.
 *  2. Nothing is written when nothing has changed: a status is compared before it is stored.
 *  3. While the backend cannot be reached nothing is decided, with growing pauses up to half a minute.
 *  4. A workload whose pass fails holds up no other, and rests, with growing pauses. Ten are worked on at once, and one
 *     never twice at once.
 *  5. A workload that is as it is to be is decided on again when something is new that it depends on, and every 30 s
 *     (HEALTH_CHECK_INTERVAL) in any case: of a large cluster that is still, a look costs little.
 *  6. When the clock was set, all that is counted from an instant on is counted anew, as after a start.
 *  7. A pass that takes long is followed by a pause as long, up to a second: a busy cluster is not looked at without end,
 *     nor, since changes never end there, never.
 *  8. What somebody asks for waits behind nothing: it is decided on first, a long pass is cut for it, and no pause comes
 *     before it (order.ts).
 */
import { changedConditions, conditionsAfter, finding } from "../objects/conditions.ts";
import { ControllerError } from "../objects/errors.ts";
import { keyOf, tenantOf } from "../objects/meta.ts";
import type { Model } from "../objects/model.ts";
import { numberFor, outdated, type Revision, revisionParts } from "../objects/revision.ts";
import type { History, Objects } from "../objects/store.ts";
import { gpuMaximumOf, gpusOfTenant } from "../objects/tenants.ts";
import type { Workload } from "../objects/workload.ts";
import { type Family, family } from "../watching/figures.ts";
import type { Backend, Look } from "./backend.ts";
import { Breath } from "./breath.ts";
import { ClockWatch } from "./clock-watch.ts";
import { LoopFigures } from "./loop-figures.ts";
import { MeasuredWrites } from "./measured-writes.ts";
import { ModelStatuses } from "./model-statuses.ts";
import { Order } from "./order.ts";
import { isAtRest, type Memory, NO_MEMORIES, type Outcome, reconcile, type Wanted } from "./reconcile.ts";
import { Resting } from "./resting.ts";
import type { TrackSeen } from "./seen.ts";
import type { ReconcileSettings } from "./settings.ts";

const EVERY_MS = 1_000;
/** What changes together is looked at together. */
const GATHER_MS = 20;
/** Workloads that are worked on side by side. */
const AT_ONCE = 10;
/** A pass that has lasted so long makes way for what is asked anew. */
const CUT_AFTER_MS = 200;
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
  /** Does not jump when the clock is set; absent: `now` does not either. */
  readonly steadyMs?: () => number;
  readonly log: {
    info(facts: object, message: string): void;
    warn(facts: object, message: string): void;
    error(facts: object, message: string): void;
  };
}

/** What a workload was as it is to be by. */
interface Settled {
  readonly models: readonly Model[];
  readonly stamp: readonly unknown[];
  readonly at: number;
}

export class ReconcileLoop {
  readonly #parts: LoopParts;
  readonly #memories = new Map<string, Memory>();
  readonly #measured = new MeasuredWrites();
  readonly #order = new Order();
  #settled = new WeakMap<Workload, Settled>();
  /** That are deleted, and that we have let go. */
  readonly #forgotten = new WeakSet<Workload>();
  readonly #clock: ClockWatch | null;
  #timer: NodeJS.Timeout | null = null;
  /** When it fires. */
  #dueAt = 0;
  #running: Promise<void> | null = null;
  #again = false;
  #stopped = false;
  #pauseMs = EVERY_MS;
  /** The last pass, waiting included. */
  #tookMs = 0;
  #unsubscribe: () => void = () => undefined;
  /** The last look; `null`: the backend was not reached yet. */
  seen: Look | null = null;
  /** Why the backend cannot be reached; `null`: it can. */
  trouble: string | null = "the backend has not been looked at yet";
  looks = 0;
  readonly #figures = new LoopFigures();
  readonly #modelStatuses: ModelStatuses;
  /** Of the pass that is under way: workloads that rest, and those whose pass has not come to the backend. */
  #undecided = new Set<string>();
  readonly #resting = new Resting();

  constructor(parts: LoopParts) {
    this.#parts = parts;
    const { now, steadyMs, objects, settings, log } = parts;
    this.#modelStatuses = new ModelStatuses({ objects, trusted: settings.trustedKeys, log });
    this.#clock = steadyMs === undefined ? null : new ClockWatch(now, steadyMs);
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

  figures(): readonly Family[] {
    const leads = this.#parts.leads() ? 1 : 0;
    return [
      ...this.#figures.families(),
      family("looks_total", "Looks at the backend", "counter", [[{}, this.looks]]),
      family("leader", "1 where this controller decides", "gauge", [[{}, leads]]),
      family("resting_workloads", "Workloads whose last pass failed, and that wait for the next", "gauge", [
        [{}, this.#resting.size],
      ]),
    ];
  }

  /** Asks for a look now, or after the one that is under way. */
  soon(): void {
    if (this.#stopped) return;
    if (this.#running !== null) {
      this.#again = true;
      return;
    }
    // A look that is due stays due: changes that never end must not put it off for ever.
    this.#begins(this.#hasNews() ? GATHER_MS : Math.max(GATHER_MS, Math.min(EVERY_MS, this.#tookMs)));
  }

  /** Somebody has asked for something that the pass under way, or the last one, does not know of, and it can be decided on. */
  #hasNews(): boolean {
    const { objects, leads } = this.#parts;
    return (
      this.trouble === null && leads() && this.#order.hasNews(objects.workloads(), (workload) => this.#isDue(workload))
    );
  }

  /** In so long, or earlier where that is due already. */
  #begins(inMs: number): void {
    const dueAt = performance.now() + inMs;
    if (this.#timer !== null && this.#dueAt <= dueAt) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueAt = dueAt;
    this.#timer = setTimeout(() => this.#begin(), inMs);
  }

  #begin(): void {
    this.#timer = null;
    this.#again = false;
    this.#running = this.pass().finally(() => {
      this.#running = null;
      if (this.#stopped) return;
      if (this.#again && this.trouble === null) this.soon();
      else this.#begins(this.#pauseMs);
    });
  }

  /** One look, and what follows from it. Never rejects. */
  async pass(): Promise<void> {
    const startedAt = performance.now();
    await this.#pass();
    this.#tookMs = Math.min(LONGEST_PAUSE_MS, performance.now() - startedAt);
    this.#figures.took.observe(this.#tookMs / 1_000);
  }

  async #pass(): Promise<void> {
    const { backend, objects, log } = this.#parts;
    this.#followClock();
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
    const { seen } = this;
    const models = this.#modelStatuses.sameAsBefore(objects.models());
    const all = objects.workloads();
    this.#forgetOthers(all);
    const open = all.filter((workload) => !this.#isSettled(workload, seen, models));
    const left = this.#order.of(open.filter((workload) => this.#isDue(workload)));
    const startedAt = performance.now();
    this.#undecided = new Set(open.map(({ metadata }) => keyOf(metadata)));
    const breath = new Breath();
    const some = async () => {
      for (let next = left.shift(); next !== undefined && this.#mayGoOn(); next = left.shift()) {
        await this.#guarded(next, seen, models);
        this.#order.decided(next);
        await breath.drawn();
        if (performance.now() - startedAt >= CUT_AFTER_MS && this.#hasNews()) return;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, some));
    this.#order.putOff(left);
    if (!this.#mayGoOn()) return;
    await this.#tended();
    await this.#modelStatuses.write(this.#parts.now());
  }

  /** Asked before each: a pass over many can last longer than a lease, or than whoever ends this process waits. */
  #mayGoOn(): boolean {
    return this.#parts.leads() && !this.#stopped;
  }

  #followClock(): void {
    const setByMs = this.#clock?.setByMs() ?? null;
    if (setByMs === null) return;
    this.#parts.log.warn({ set_by_ms: setByMs }, "the clock was set: what is counted from an instant on begins anew");
    this.#memories.clear();
    this.#measured.clear();
    this.#resting.clear();
    this.#settled = new WeakMap();
  }

  async #tended(): Promise<void> {
    const { backend, log, now } = this.#parts;
    try {
      await backend.tend(now(), this.#undecided);
    } catch (error) {
      log.warn({ trouble: (error as Error).message }, "nodes could not be looked after");
    }
  }

  #isDue({ metadata }: Workload): boolean {
    return this.#resting.isDue(metadata, this.#parts.now());
  }

  /** Of what has gone by another hand than ours. */
  #forgetOthers(workloads: readonly Workload[]): void {
    if (this.#memories.size + this.#resting.size <= workloads.length) return;
    const there = new Set(workloads.map(({ metadata }) => metadata.uid));
    for (const uid of this.#memories.keys()) if (!there.has(uid)) this.#memories.delete(uid);
    this.#resting.keep(there);
  }

  #isSettled(workload: Workload, look: Look, models: readonly Model[]): boolean {
    const before = this.#settled.get(workload);
    if (
      before === undefined ||
      before.models !== models ||
      this.#parts.now() - before.at >= this.#parts.settings.anewMs
    ) {
      return false;
    }
    const stamp = look.stampOf?.(workload);
    return stamp?.every((one, index) => one === before.stamp[index]) === true;
  }

  async #guarded(workload: Workload, look: Look, models: readonly Model[]): Promise<void> {
    const { log, now } = this.#parts;
    const key = keyOf(workload.metadata);
    try {
      await this.#one(workload, look, models);
      this.#resting.passed(workload.metadata);
    } catch (error) {
      const pauseMs = this.#resting.failed(workload.metadata, now());
      this.#figures.passes.add({ result: "failed" });
      const isExpected = error instanceof ControllerError;
      if (isExpected) log.warn({ workload: key, trouble: error.message, pause_ms: pauseMs }, "a pass was cut short");
      else log.error({ workload: key, err: error, pause_ms: pauseMs }, "a pass failed");
    }
  }

  async #one(workload: Workload, look: Look, models: readonly Model[]): Promise<void> {
    const { objects, settings, now } = this.#parts;
    const { uid } = workload.metadata;
    const tracks = look.tracksOf(workload);
    // As it is before anything is done: what is done is new.
    const stamp = look.stampOf?.(workload);
    const [load, service] = [look.loadOf(workload), look.serviceOf(workload)];
    const { nodes, isolates, groups } = look;
    const external = look.externalOf?.(workload) ?? null;
    const children = look.childrenOf?.(workload) ?? [];
    const tenant = tenantOf(workload.metadata);
    const most = gpuMaximumOf(settings.tenantGpus, tenant);
    const tenantGpus = most === null ? null : Math.max(0, most - gpusOfTenant(objects.workloads(), tenant, uid));
    const seen = { tracks, nodes, models, load, service, external, isolates, groups, children, tenantGpus, now: now() };
    const decided = reconcile(workload, seen, this.#memories.get(uid) ?? NO_MEMORIES, settings);
    this.#memories.set(uid, decided.memory);
    if (decided.wanted !== null) this.#figures.removals.add({}, decided.wanted.removed.length);
    if (decided.wanted === null) this.#undecided.delete(keyOf(workload.metadata));
    const refusal = decided.wanted === null ? null : await refusalBy(this.#apply(workload, decided.wanted, tracks));
    this.#figures.passes.add({ result: refusal === null ? "done" : "refused" });
    const outcome = refusal === null ? decided : refused(workload, decided, refusal, seen.now);
    if (outcome.gone) return await this.#forget(workload);
    if (this.#measured.isWritten(workload, outcome.status, seen.now)) {
      if (stamp !== undefined && isAtRest(outcome)) this.#settled.set(workload, { models, stamp, at: seen.now });
      return;
    }
    this.#measured.written(uid, now());
    await this.#tell(workload, outcome);
    await objects.putStatus(workload, outcome.status);
  }

  /** Somebody else may hold it for as long as they like: then it is let go once. */
  async #forget(workload: Workload): Promise<void> {
    const { objects, history, backend, now } = this.#parts;
    const { uid, name } = workload.metadata;
    this.#memories.delete(uid);
    this.#measured.forget(uid);
    this.#order.forget(workload);
    if (this.#forgotten.has(workload)) return;
    history.endScaling(name, "cancelled", new Date(now()).toISOString());
    await backend.forget?.(workload);
    await objects.forget(workload);
    this.#forgotten.add(workload);
  }

  async #apply(workload: Workload, wanted: Wanted, tracks: readonly TrackSeen[]): Promise<void> {
    const { backend, now } = this.#parts;
    const template = await this.#template(workload, wanted, tracks);
    this.#undecided.delete(keyOf(workload.metadata));
    const drifts = await backend.apply(workload, wanted, tracks, template);
    if (drifts.length === 0) return;
    const { uid } = workload.metadata;
    const memory = this.#memories.get(uid) ?? NO_MEMORIES;
    this.#memories.set(uid, { ...memory, drift: { at: now(), words: drifts.join("; ") } });
    this.#figures.drifts.add({}, drifts.length);
  }

  /** That of the revision that is wanted, which is kept from now on. */
  async #template(workload: Workload, wanted: Wanted, tracks: readonly TrackSeen[]): Promise<Revision["template"]> {
    const { objects, backend, settings, now } = this.#parts;
    const { revision: name } = wanted;
    const known = objects.revisions(workload);
    const old = known.find((one) => one.name === name);
    if (wanted.plan === null || wanted.isBlocked) return old?.template ?? null;
    const { unseenRevisions: unseen = null } = objects;
    if (unseen !== null) {
      // One that runs already goes on as it is; a new one would be told from none.
      const running = backend.runningTemplate?.(workload, name) ?? null;
      if (running === null) throw new ControllerError("backend-refused", unseen);
      return running;
    }
    const number = numberFor(name, known);
    if (old?.number === number) return old.template;
    const parts = revisionParts(workload.metadata, workload.spec);
    const made = { name, parts, template: backend.templateOf(workload, wanted), madeAt: new Date(now()).toISOString() };
    const kept: Revision = { ...(old ?? made), number };
    await objects.keepRevision(workload, kept);
    const running = new Set([name, ...tracks.map(({ revision }) => revision)]);
    const all = [...known.filter((one) => one.name !== name), kept];
    for (const one of outdated(all, settings.maxVersions, running)) await objects.dropRevision(workload, one);
    return kept.template;
  }

  async #tell(workload: Workload, { scaled, status }: Outcome): Promise<void> {
    if (scaled !== null) this.#figures.scalings.add({ type: scaled.type });
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
      // A wait for GPUs has no deadline: it fails nothing.
      if (type === "Stuck" && holds === "True" && reason !== "Unschedulable") {
        history.endScaling(name, "failed", at, `${reason}: ${message}`);
      }
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
