/** Why requests wait, and until when. */
import type { EpochMs } from "../../core/base/time.ts";
import { type Explainer, type Explanation, explainer } from "../../core/explain/explain.ts";
import { type Eta, forecast, MAX_FORECASTS } from "../../core/explain/forecast.ts";
import { indexNow } from "../../core/host/indices.ts";
import { queueKey } from "../../core/host/line.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Request } from "../../core/model/allocation.ts";
import type { AllocationId } from "../../core/model/ids.ts";
import { printable } from "../../platform/printable.ts";
import { byIndex } from "../gpus/views.ts";

/** An explanation as the API shows it. */
export interface ReasonView {
  readonly reason: string;
  readonly publicReason: string;
  readonly gpus: ReturnType<typeof reasonsView>;
}

/**
 * What the requests of one answer are told that wait. What they have in common is found out once, when the first of
 * them asks: one pass of the scheduler, one forecast, and one explanation for all that ask for the same.
 */
export class Outlook {
  readonly #state: HostState;
  readonly #now: EpochMs;
  readonly #furthest: number;
  readonly #reasons = new Map<string, ReasonView>();
  #explainer: Explainer | null = null;
  #etas: ReadonlyMap<AllocationId, Eta | null> | null = null;

  /** @param furthest no request further back in the line than this place will be asked about. */
  constructor(state: HostState, now: EpochMs, furthest: number = MAX_FORECASTS) {
    this.#state = state;
    this.#now = now;
    this.#furthest = furthest;
  }

  /** Requests that ask for the same have the same reason, unless GPUs are held for one; a long queue has few kinds. */
  reasonOf(request: Request): ReasonView {
    this.#explainer ??= explainer(this.#state, this.#now);
    const { explanationOf, kindOf } = this.#explainer;
    const family = this.#state.line.order.get(queueKey(request, this.#state.policy))?.familyKey;
    const kind = `${family}|${request.requirement.memoryMib}|${kindOf(request)}`;
    const known = this.#reasons.get(kind) ?? reasonView(explanationOf(request), this.#state);
    this.#reasons.set(kind, known);
    return known;
  }

  /** @param place the request's in the line, from 1. */
  etaOf(request: Request, place: number): Eta | null {
    if (place > MAX_FORECASTS) return null;
    this.#etas ??= forecast(this.#state, this.#now, this.#furthest);
    return this.#etas.get(request.id) ?? null;
  }
}

function reasonView({ reason, publicReason, gpus }: Explanation, state: HostState): ReasonView {
  return { reason: printable(reason), publicReason: printable(publicReason), gpus: reasonsView(gpus, state) };
}

/** Of each GPU, in the order of `GET /gpu/list`, why not; `null` for one that would do. */
export function reasonsView(gpus: Explanation["gpus"], state: HostState) {
  const indexOf = indexNow(state);
  const views = [...gpus].map(([uuid, reason]) => ({ id: indexOf(uuid), uuid: printable(uuid), reason }));
  return views.sort(byIndex);
}
