/** What each node could take now, and who has the first claim to it. */
import type { EpochMs } from "../core/base/time.ts";
import type { Draft } from "./draft.ts";
import { isOnNode } from "./evolve.ts";
import type { Run, RunOnNode, Task, Workload } from "./model.ts";
import { chooseNode, isAwake, type NodeChoice, type Offer } from "./node-choice.ts";
import { jobOf, nodesServing, openRunsOf } from "./state.ts";

/** What uses a service goes where a replica of it is ready. */
export function chooseServing(
  state: Draft["state"],
  job: Pick<Task, "owner" | "spec" | "origin"> | Workload,
  offers: readonly Offer[],
  now: EpochMs,
): NodeChoice {
  if (job.spec === null) return { node: null, reason: "no-settings" };
  const serving = job.spec.service === undefined || "uid" in job ? null : nodesServing(state, job);
  if (serving === null) return chooseNode(job.spec, offers, now);
  const left = offers.filter(({ worker }) => serving.has(worker.node));
  return left.length === 0 ? { node: null, reason: "service-not-ready" } : chooseNode(job.spec, left, now);
}

/** Of books that stand as they are: the maps never change, and many runs ask one after the other. */
const foundOffers = new WeakMap<Draft["state"]["runs"], { of: Draft["state"]["workers"]; offers: readonly Offer[] }>();

export function offersOf(state: Draft["state"]): readonly Offer[] {
  const known = foundOffers.get(state.runs);
  if (known !== undefined && known.of === state.workers) return known.offers;
  const offers = offersFrom(state);
  foundOffers.set(state.runs, { of: state.workers, offers });
  return offers;
}

/** What each node could take, less what it has been given since it said so. */
function offersFrom(state: Draft["state"]): Offer[] {
  const workers = [...state.workers.values()];
  // Alone, it is chosen whatever it has free.
  if (workers.length < 2 && workers.every(({ link }) => link === undefined))
    return workers.map((worker) => ({ worker, freeGpus: worker.freeGpus ?? null }));
  const given = new Map<string, { gpus: number; runs: number }>();
  for (const run of openRunsOf(state)) {
    if (run.phase === "waiting" || run.phase === "ended") continue;
    const sum = given.get(run.node) ?? { gpus: 0, runs: 0 };
    sum.runs++;
    // With a lease it is out of what the node calls free.
    const isNews = run.lease === null || run.createdAt > (state.workers.get(run.node)?.lastSeen ?? 0);
    if (isNews) sum.gpus += jobOf(state, run.job)?.spec?.resources.gpu?.count ?? 0;
    given.set(run.node, sum);
  }
  return workers.map((worker) => {
    const { gpus, runs } = given.get(worker.node) ?? { gpus: 0, runs: 0 };
    const freeGpus = typeof worker.freeGpus === "number" ? Math.max(0, worker.freeGpus - gpus) : null;
    if (worker.link === undefined || runs === 0) return { worker, freeGpus };
    return { worker: { ...worker, link: { ...worker.link, isIdle: false } }, freeGpus };
  });
}

/** Of runs that wait in the lines of nodes, in this order, those that others could start now: no more than find room together. */
export function startElsewhere(state: Draft["state"], queued: readonly RunOnNode[], now: EpochMs): RunOnNode[] {
  return placedElsewhere(state, queued, now).moving;
}

/**
 * What the nodes offer to `run`: not the room of those that were asked back for it and are on their way. Who came later
 * would take it, and they went back to the end of the line that they came from.
 */
export function unpromised(state: Draft["state"], run: Run, now: EpochMs): readonly Offer[] {
  const onTheirWay = openRunsOf(state).filter(
    (one): one is RunOnNode => isOnNode(one) && isOnItsWay(state, one, now) && one.createdAt <= run.createdAt,
  );
  return onTheirWay.length === 0 ? offersOf(state) : placedElsewhere(state, onTheirWay, now).left;
}

/** A node that is silent gives nothing back. */
function isOnItsWay(state: Draft["state"], run: RunOnNode, now: EpochMs): boolean {
  if (run.recalled !== true || run.phase !== "starting" || run.startedAt !== null || run.lease !== null) return false;
  const worker = state.workers.get(run.node);
  return worker !== undefined && isAwake(worker, now);
}

/** The runs that find room on other nodes, and what those offer beside them. */
function placedElsewhere(state: Draft["state"], queued: readonly RunOnNode[], now: EpochMs) {
  let left = offersOf(state);
  const moving = queued.filter((run) => {
    const job = jobOf(state, run.job);
    const others = left.filter(({ worker, freeGpus }) => worker.node !== run.node && freeGpus !== 0);
    if (job === undefined || others.length === 0) return false;
    const choice = chooseServing(state, job, others, now);
    if (choice.node === null || !choice.startsNow) return false;
    const count = job.spec?.resources.gpu?.count ?? 0;
    left = left.map((offer) => {
      const isThere = offer.worker.node === choice.node && offer.freeGpus !== null;
      return isThere ? { ...offer, freeGpus: offer.freeGpus - count } : offer;
    });
    return true;
  });
  return { moving, left };
}
