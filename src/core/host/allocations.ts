import { byText, OrderedMap } from "../base/ordered-map.ts";
import type { HoldingAllocation, LiveAllocation, QueuedAllocation } from "../model/allocation.ts";
import type { AllocationId } from "../model/ids.ts";

type Holding = OrderedMap<AllocationId, HoldingAllocation>;
type WaitingOnes = OrderedMap<AllocationId, QueuedAllocation>;

/**
 * Every allocation that lives, by its id, as a value. Those that hold GPUs stand apart from those that wait: they are few,
 * and one decision asks for them again and again, where a line may be long.
 */
export class Allocations {
  readonly #holding: Holding;
  readonly #waiting: WaitingOnes;

  private constructor(holding: Holding, waiting: WaitingOnes) {
    this.#holding = holding;
    this.#waiting = waiting;
  }

  static readonly none = new Allocations(OrderedMap.empty(byText()), OrderedMap.empty(byText()));

  get size(): number {
    return this.#holding.size + this.#waiting.size;
  }

  get(id: AllocationId): LiveAllocation | undefined {
    return this.#holding.get(id) ?? this.#waiting.get(id);
  }

  /** Those in which one has become `next`. @param before what it was; `undefined`: it was not there. */
  with(before: LiveAllocation | undefined, next: LiveAllocation): Allocations {
    const { id } = next.request;
    if (next.status === "queued") {
      const holding = before === undefined || before.status === "queued" ? this.#holding : this.#holding.delete(id);
      return new Allocations(holding, this.#waiting.set(id, next));
    }
    const waiting = before?.status === "queued" ? this.#waiting.delete(id) : this.#waiting;
    return new Allocations(this.#holding.set(id, next), waiting);
  }

  /** Those without one. */
  without({ status, request: { id } }: LiveAllocation): Allocations {
    return status === "queued"
      ? new Allocations(this.#holding, this.#waiting.delete(id))
      : new Allocations(this.#holding.delete(id), this.#waiting);
  }

  /** In the order of their ids. */
  values(): Generator<LiveAllocation> {
    return merged(this.#holding.values(), this.#waiting.values());
  }

  /** Those whose ids are not before `id`, in that order. */
  valuesFrom(id: AllocationId): Generator<LiveAllocation> {
    return merged(this.#holding.valuesFrom(id), this.#waiting.valuesFrom(id));
  }
}

function* merged(some: Iterator<LiveAllocation>, others: Iterator<LiveAllocation>): Generator<LiveAllocation> {
  let [a, b] = [some.next(), others.next()];
  while (!(a.done && b.done)) {
    if (b.done || (!a.done && a.value.request.id < b.value.request.id)) {
      yield a.value;
      a = some.next();
    } else {
      yield b.value;
      b = others.next();
    }
  }
}
