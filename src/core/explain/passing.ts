/**
 * The slots of a forecast in which leases are taken to be short: one that waits may pass others before it.
 *
 *  1. Who cannot be passed keeps every GPU from who stands behind it until it begins, and as many as it asked for until it
 *     ends. It can be passed unless it can use all that the other can, and asks for no more, and for no longer.
 *  2. So a start is no earlier than the last of the beginnings of those who cannot be passed, and from then on only what
 *     they have until they end counts.
 *  3. Whether one can be passed depends on its {@link Kind} and on how long it lasts. Of a kind, who begins no earlier and
 *     lasts no longer than another says all about that one's beginning too; of those still going on then, there are few.
 *     So a start looks at kinds, and not at all slots.
 */

import type { EpochMs } from "../base/time.ts";
import { firstIndex } from "../host/window-plan.ts";
import type { GpuSet, GpuSets } from "./gpu-sets.ts";
import type { Claimant, FreeTimes } from "./slots.ts";

/** Slots that one who waits can pass or not, but for how long they last. */
interface Kind {
  readonly gpus: number;
  readonly suiting: GpuSet;
  readonly shares: boolean;
  /** The priority of whom wider ones may pass; `null`: none of them may. */
  readonly passableAt: number | null;
  /** See 3, by both figures: no slot of the kind is left out but one that begins no later and lasts no shorter. */
  steps: readonly Step[];
  /** Whether it cannot be passed by the one whose start is looked for. */
  isFirm: boolean;
}

interface Step {
  readonly firmFrom: number;
  readonly begin: number;
}

interface Slot {
  readonly kind: Kind;
  readonly end: number;
  /** Who lasts at least so long cannot pass it; -Infinity: nobody can, see {@link PassableSlots.add}. */
  readonly firmFrom: number;
}

export class PassableSlots {
  readonly #sets: GpuSets;
  readonly #freeTimes: FreeTimes;
  readonly #kinds: Kind[] = [];
  /** The last to end first. */
  readonly #slots: Slot[] = [];
  #severalAsked = false;

  constructor(sets: GpuSets, freeTimes: FreeTimes) {
    this.#sets = sets;
    this.#freeTimes = freeTimes;
  }

  add(claimant: Claimant, begin: number, end: number): void {
    // Somebody before it that asks for several may hold GPUs that are free, but not for those who are short.
    const firmFrom = this.#severalAsked ? claimant.durationMs : -Infinity;
    this.#severalAsked ||= claimant.gpus > 1;
    const kind = this.#kindOf(claimant);
    kind.steps = withStep(kind.steps, { firmFrom, begin });
    const place = firstIndex(this.#slots, (slot) => slot.end < end);
    this.#slots.splice(place, 0, { kind, end, firmFrom });
  }

  /** The first instant at which `claimant` has enough GPUs beside those who cannot be passed; Infinity: there is none. */
  start(claimant: Claimant, now: EpochMs): number {
    const { gpus: wanted, suiting, durationMs } = claimant;
    let at = this.#lastBegin(claimant);
    if (at === Infinity) return Infinity;
    const comeFree = this.#freeTimes.of(suiting);
    let nextGpu = 0;
    while ((comeFree[nextGpu] ?? Infinity) <= at) nextGpu++;
    let free = nextGpu;
    const lasting: Slot[] = [];
    for (const slot of this.#slots) {
      if (slot.end <= at) break;
      if (!slot.kind.isFirm || slot.firmFrom > durationMs) continue;
      free -= slot.kind.gpus;
      lasting.push(slot);
    }
    while (free < wanted) {
      const end = lasting.at(-1)?.end ?? Infinity;
      at = Math.min(end, comeFree[nextGpu] ?? Infinity);
      if (at === Infinity) return Infinity;
      if (at === end) free += (lasting.pop() as Slot).kind.gpus;
      else {
        free++;
        nextGpu++;
      }
    }
    return Math.max(now, at);
  }

  /** When the last of those begins whom `claimant` cannot pass. Notes of which kinds they are. */
  #lastBegin(claimant: Claimant): number {
    let last = -Infinity;
    for (const kind of this.#kinds) {
      kind.isFirm = this.#isFirm(kind, claimant);
      if (!kind.isFirm) continue;
      const { steps } = kind;
      for (let i = steps.length - 1; i >= 0; i--) {
        const { firmFrom, begin } = steps[i] as Step;
        if (firmFrom > claimant.durationMs) continue;
        last = Math.max(last, begin);
        break;
      }
    }
    return last;
  }

  /** Whether who is of `kind` asks for no more than `claimant`, can use all that it can, and is not let past. */
  #isFirm({ gpus, suiting: before, shares, passableAt }: Kind, claimant: Claimant): boolean {
    const { suiting } = claimant;
    if (gpus > claimant.gpus) return false;
    if (before !== suiting && this.#sets.overlap(before, suiting) < suiting.size) return false;
    if (shares && claimant.shares) return false;
    const isEqual = claimant.durationMs === Infinity && claimant.priority === passableAt;
    return !(isEqual && claimant.gpus > gpus);
  }

  #kindOf({ gpus, suiting, shares, isPassable, priority }: Claimant): Kind {
    const passableAt = isPassable ? priority : null;
    for (const kind of this.#kinds) {
      const isAlike = kind.suiting === suiting && kind.gpus === gpus && kind.shares === shares;
      if (isAlike && kind.passableAt === passableAt) return kind;
    }
    const kind: Kind = { gpus, suiting, shares, passableAt, steps: [], isFirm: false };
    this.#kinds.push(kind);
    return kind;
  }
}

/** The steps, both of whose figures rise, with one more, as far as it says more than they do. */
function withStep(steps: readonly Step[], step: Step): readonly Step[] {
  const isSaid = steps.some(({ firmFrom, begin }) => firmFrom <= step.firmFrom && begin >= step.begin);
  if (isSaid) return steps;
  const place = firstIndex(steps, ({ firmFrom }) => firmFrom >= step.firmFrom);
  const rest = steps.slice(place).filter(({ begin }) => begin > step.begin);
  return [...steps.slice(0, place), step, ...rest];
}
