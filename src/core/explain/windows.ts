/** What reserved windows have to do with a request's waiting, in words. */

import { type Allowance, allowanceFor, type WindowCause, withinAllowance } from "../allocator/allowance.ts";
import type { FutureCandidate } from "../allocator/candidates.ts";
import { usable } from "../allocator/fit.ts";
import { formatDuration } from "../base/duration.ts";
import type { EpochMs } from "../base/time.ts";
import { askOf } from "../host/demand.ts";
import type { Candidate } from "../host/free-gpus.ts";
import type { HostState } from "../host/state.ts";
import { memberOf } from "../host/window-plan.ts";
import type { Request } from "../model/allocation.ts";
import type { GpuUuid } from "../model/ids.ts";
import type { KeptWindow } from "../model/policy.ts";
import { type Occupancy, WindowAllowances } from "../queue/window-allowances.ts";

/** What windows keep from a request that waits. */
export interface KeptByWindows {
  /** Of the GPUs that are free and suit it, those that it may not have. */
  readonly gpus: readonly GpuUuid[];
  /** Why, and what would help: to be put behind a sentence. Empty when windows are not what it waits for. */
  readonly words: string;
}

/**
 * @param suiting the GPUs that are free and suit it.
 * @param later every GPU that nothing but leases keeps from being granted.
 * @param before those for whom GPUs are held before it.
 */
export function keptByWindows(
  request: Request,
  suiting: readonly Candidate[],
  later: readonly FutureCandidate[],
  before: readonly Occupancy[],
  state: HostState,
  now: EpochMs,
): KeptByWindows {
  const { windows: rules } = state;
  if (rules.length === 0) return { gpus: [], words: "" };
  const count = request.requirement.gpus;
  const { durationMs } = askOf(request);
  const windows = new WindowAllowances(state, () => later, now);
  const member = memberOf(request, rules);
  const allowances = windows.beside([...windows.occupancies(state), ...before])(member);
  // All of them have enough memory: which of them may be had does not matter.
  const had = (allowance: Allowance) => withinAllowance(suiting, allowance, count, () => 0);
  const own = new Set(had(allowanceFor(allowances, durationMs)));
  const gpus = suiting.filter((candidate) => !own.has(candidate)).map(({ gpu }) => gpu.uuid);
  const fits = (allowance: Allowance) => had(allowance).length >= count;
  if (gpus.length > 0 && own.size < count) {
    const least = Math.min(count, suiting.length);
    const cause = allowances.find((allowance) => had(allowance).length < least)?.cause ?? null;
    const longest = allowances.findLast((allowance) => allowance.durationMs < durationMs && fits(allowance));
    const hint = longest === undefined ? "" : fittingHint(longest.durationMs);
    return { gpus, words: `; ${causeWords(cause, now)}${hint}` };
  }
  // Would it do to wait for leases to end?
  const wanted = usable(request, later, state.gpus.models());
  const allowancesLater = windows.beside([])(member);
  const fitsLater = (allowance: Allowance) => withinAllowance(wanted, allowance, count, () => 0).length >= count;
  if (wanted.length < count || fitsLater(allowanceFor(allowancesLater, durationMs))) return { gpus, words: "" };
  const cause = allowancesLater.find((allowance) => !fitsLater(allowance))?.cause ?? null;
  const hint = durationMs === Infinity ? ", and without a max_duration it cannot start" : "";
  return { gpus, words: `; ${causeWords(cause, now)}${hint}` };
}

function causeWords(cause: WindowCause | null, now: EpochMs): string {
  if (cause === null) return "reserved windows";
  const { windows, span } = cause;
  const names = windows.map(({ name }) => name).join(" and ");
  const gpus = windows.map(gpuWords).join(" and ");
  const isOne = windows.length === 1;
  const who = `${isOne ? "window" : "windows"} ${names}`;
  if (span.from > now) return `${who} ${isOne ? "takes" : "take"} ${gpus} in ${roughly(span.from - now)}`;
  return `${who} ${isOne ? "keeps" : "keep"} ${gpus} for ${roughly(span.to - now)} more`;
}

function gpuWords({ gpus }: KeptWindow): string {
  if (typeof gpus !== "number") return gpus.length === 1 ? "a named GPU" : `${gpus.length} named GPUs`;
  return gpus === 1 ? "1 GPU" : `${gpus} GPUs`;
}

/** Rounded down, so that what is said to fit does. */
function fittingHint(durationMs: number): string {
  return durationMs < 1_000 ? "" : `; with a max_duration of at most ${roughly(durationMs)} it would fit now`;
}

/** In whole minutes, or seconds where it is less than one. */
export function roughly(durationMs: number): string {
  const unit = durationMs < 60_000 ? 1_000 : 60_000;
  return formatDuration(Math.floor(durationMs / unit) * unit);
}
