/**
 * What each operation says of each request's life: at most how far it had come before, and at least how far it has come
 * after. Lives only go on, so an operation after which a request has come further than it can have come before another
 * is after that one, in every order. It is the model's, said of pairs: it prunes the search and decides nothing.
 */
import type { Operation } from "./linearizability.ts";
import { type Fact, LEASED, OFFERED, QUEUED, RELEASED, type Shown, type Step, UNKNOWN } from "./steps.ts";

/** By the request's number: parts of its life. */
interface Bounds {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

export interface Evidence {
  mustPrecede(a: Operation<Step>, b: Operation<Step>): boolean;
}

const ENDED = RELEASED;
const PART_OF: { readonly [status: string]: number } = {
  queued: QUEUED,
  offered: OFFERED,
  leased: LEASED,
  allocated: LEASED,
  ended: ENDED,
};

export function evidenceOf(history: readonly Operation<Step>[], facts: readonly Fact[]): Evidence {
  const weighing = new Weighing(history, facts);
  const bounds = new Map(history.map((operation) => [operation, weighing.boundsOf(operation)]));
  return {
    mustPrecede(a, b) {
      const { before } = bounds.get(a) as Bounds;
      const { after } = bounds.get(b) as Bounds;
      // Asked of every pair: a closure here would take longer than the search.
      for (let number = 0; number < after.length; number++) {
        if ((after[number] as number) > (before[number] as number)) return true;
      }
      return false;
    },
  };
}

class Weighing {
  readonly #facts: readonly Fact[];
  readonly #numbers: ReadonlyMap<string, number>;
  /** By number: when its end was asked for first. */
  readonly #endAskedAt: readonly number[];

  constructor(history: readonly Operation<Step>[], facts: readonly Fact[]) {
    this.#facts = facts;
    this.#numbers = new Map(facts.map(({ id }, number) => [id, number]));
    const asked = new Map<string, number>();
    for (const { step, invokedAt } of history) {
      const ids = step.call === "release" ? [step.id] : step.call === "release-service" ? step.released : [];
      for (const id of ids) asked.set(id, Math.min(invokedAt, asked.get(id) ?? Number.POSITIVE_INFINITY));
    }
    this.#endAskedAt = facts.map(({ id }) => asked.get(id) ?? Number.POSITIVE_INFINITY);
  }

  boundsOf({ step, answeredAt }: Operation<Step>): Bounds {
    const bounds = {
      before: new Uint8Array(this.#facts.length).fill(ENDED),
      after: new Uint8Array(this.#facts.length),
    };
    const say = (id: string, before: number, after: number) => {
      const number = this.#numbers.get(id) as number;
      bounds.before[number] = before;
      bounds.after[number] = after;
    };
    const show = ({ id, status }: Shown) => say(id, PART_OF[status] as number, PART_OF[status] as number);
    switch (step.call) {
      case "allocate":
        say(step.shown.id, UNKNOWN, PART_OF[step.shown.status] as number);
        break;
      case "release":
      case "renew-ended":
        say(step.id, ENDED, ENDED);
        break;
      case "release-service":
        for (const id of step.released) say(id, LEASED, ENDED);
        break;
      case "renew":
      case "read":
        show(step.shown);
        break;
      case "list":
        this.#hide(bounds, answeredAt, UNKNOWN);
        for (const id of step.queue) say(id, QUEUED, QUEUED);
        step.held.forEach(show);
        break;
      case "status":
        this.#hide(bounds, answeredAt, QUEUED);
        for (const id of step.holders.values()) if (id !== null) say(id, LEASED, OFFERED);
        break;
      case "refused":
        break;
      default:
        step satisfies never;
    }
    this.#countGrants(bounds);
    return bounds;
  }

  /** Whoever is not shown, and cannot have ended by then, had come no further than `part`. */
  #hide({ before }: Bounds, shownAt: number, part: number): void {
    for (const [number, endAskedAt] of this.#endAskedAt.entries()) if (endAskedAt > shownAt) before[number] = part;
  }

  /** Tokens grow: with one grant, all those with lower tokens have been made. */
  #countGrants({ after }: Bounds): void {
    let highest = 0;
    for (const [number, { lease }] of this.#facts.entries()) {
      if ((after[number] as number) >= OFFERED) highest = Math.max(highest, lease?.token ?? 0);
    }
    for (const [number, { lease }] of this.#facts.entries()) {
      if (lease !== null && lease.token < highest) after[number] = Math.max(after[number] as number, OFFERED);
    }
  }
}
