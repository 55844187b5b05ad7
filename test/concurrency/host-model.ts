/**
 * The host as the contract tells of it to one client at a time: who holds which GPU, who waits, and each request's life.
 * Nothing of the daemon's own code is in it.
 *
 *  1. A GPU is free or in one lease; a lease holds as many as were asked for.
 *  2. Fencing tokens grow from grant to grant.
 *  3. Those who wait stand in order of priority, then of submission. Whenever GPUs are free, the first in line that can do
 *     with them is granted, until nobody can. A newcomer is considered as if it had queued.
 *  4. A grant to a newcomer is leased, one from the queue is offered until its record is read or renewed.
 *  5. An end is for ever: released if it held GPUs, cancelled if it waited. Ending it again is no error.
 *
 * The history is decided as a whole. Linearizability is local (a history is linearizable if its part on each object is),
 * but there is one object here only: an allocate takes GPUs and a place in line at one instant, a release hands GPUs on
 * to whoever waits, and a list shows them all. What could be taken apart are the lives of single requests; it would
 * save nothing, for what is known of them prunes the search.
 *
 * Which GPUs a request got, and under which token, is open in the contract. It is read from the history beforehand: every
 * grant of it must be known, as it is when each request's record is read at the end. So the model is free of choices.
 */
import { type Evidence, evidenceOf } from "./evidence.ts";
import type { Model, Operation } from "./linearizability.ts";
import {
  CANCELLED,
  type Fact,
  factsOf,
  LEASED,
  type Lease,
  OFFERED,
  QUEUED,
  RELEASED,
  type Shown,
  type Step,
  UNKNOWN,
} from "./steps.ts";

/** Characters at the end of an id that sort by time. */
const SORTABLE = 26;
const WORDS = ["unknown", "queued", "offered", "leased", "ended", "ended"];

export interface HostState {
  /** By the request's number. */
  readonly lives: Uint8Array;
  /** Numbers of those that wait, in order. */
  readonly line: readonly number[];
  readonly free: ReadonlySet<string>;
  /** Grants so far. */
  readonly granted: number;
}

type Done = Operation<Step>;

/** The end of an id sorts by time, and time is about when its request was taken. */
function areInOrderOfIds({ step: a }: Done, { step: b }: Done): boolean {
  if (a.call !== "allocate" || b.call !== "allocate") return false;
  return a.shown.id.slice(-SORTABLE) < b.shown.id.slice(-SORTABLE);
}

/** Calls of one kind go one way, and so do not overtake each other as a rule. */
function areInOrderOfAnswers(a: Done, b: Done): boolean {
  return a.step.call === b.step.call && a.step.call === "release" && a.answeredAt < b.answeredAt;
}

export class HostModel implements Model<HostState, Step> {
  readonly initial: HostState;
  readonly guesses = [(a: Done, b: Done) => areInOrderOfIds(a, b) || areInOrderOfAnswers(a, b), areInOrderOfIds];
  readonly #facts: readonly Fact[];
  readonly #numbers: ReadonlyMap<string, number>;
  /** Numbers of the requests that were ever granted, in order of their tokens. */
  readonly #grants: readonly number[];
  readonly #evidence: Evidence;

  /** @param gpus of the host, all free, with nobody in line. */
  constructor(history: readonly Operation<Step>[], gpus: readonly string[]) {
    this.#facts = factsOf(history);
    this.#numbers = new Map(this.#facts.map(({ id }, number) => [id, number]));
    this.#grants = [...this.#facts.keys()]
      .filter((number) => this.#fact(number).lease !== null)
      .sort((a, b) => this.#token(a) - this.#token(b));
    this.#evidence = evidenceOf(history, this.#facts);
    this.initial = { lives: new Uint8Array(this.#facts.length), line: [], free: new Set(gpus), granted: 0 };
  }

  key({ lives, line }: HostState): string {
    // The rest follows: who lives holds what it was granted.
    return `${Buffer.from(lives).toString("latin1")}|${line.join()}`;
  }

  mustPrecede(a: Operation<Step>, b: Operation<Step>): boolean {
    return this.#evidence.mustPrecede(a, b);
  }

  apply(state: HostState, step: Step): HostState | null {
    switch (step.call) {
      case "allocate":
        return this.#allocate(state, step.shown);
      case "refused":
        return step.wanted.gpus > state.free.size ? state : null;
      case "release":
        return this.#end(state, [this.#number(step.id)]);
      case "release-service":
        return this.#endService(state, step.service, step.released);
      case "renew":
      case "read":
        return this.#show(state, step.shown);
      case "renew-ended":
        return WORDS[this.#life(state, step.id)] === "ended" ? state : null;
      case "list":
        return this.#lists(state, step.held, step.queue) ? state : null;
      case "status":
        return this.#isStatus(state, step.holders) ? state : null;
      default:
        return step satisfies never;
    }
  }

  /** See 3: nobody in line can do with what is free, so a newcomer that can is next. */
  #allocate(state: HostState, shown: Shown): HostState | null {
    const number = this.#number(shown.id);
    const { wanted } = this.#fact(number);
    if (state.lives[number] !== UNKNOWN) return null;
    if (wanted.gpus <= state.free.size) {
      const next = this.#grant(this.#with(state, [number], LEASED), number);
      return next !== null && shown.status === "allocated" && this.#isLease(number, shown.lease) ? next : null;
    }
    const place = state.line.findLastIndex((other) => this.#fact(other).wanted.priority >= wanted.priority) + 1;
    if (shown.status !== "queued" || shown.position !== place + 1) return null;
    return { ...this.#with(state, [number], QUEUED), line: state.line.toSpliced(place, 0, number) };
  }

  /** Takes the GPUs that the history says it got. `null`: they were not free, or it is not its turn. */
  #grant(state: HostState, number: number): HostState | null {
    if (this.#grants[state.granted] !== number) return null;
    const { lease, wanted } = this.#fact(number);
    if (lease?.gpus.length !== wanted.gpus || !lease.gpus.every((gpu) => state.free.has(gpu))) return null;
    const before = this.#grants[state.granted - 1];
    if (before !== undefined && this.#token(before) >= lease.token) return null;
    const free = new Set(state.free);
    for (const gpu of lease.gpus) free.delete(gpu);
    return { ...state, free, granted: state.granted + 1 };
  }

  #end(state: HostState, numbers: readonly number[]): HostState | null {
    const living = numbers.filter((number) => state.lives[number] !== RELEASED && state.lives[number] !== CANCELLED);
    if (living.length === 0) return state;
    if (living.some((number) => state.lives[number] === UNKNOWN)) return null;
    const waiting = living.filter((number) => state.lives[number] === QUEUED);
    // Such a one is granted later, as everybody knows in the end.
    if (waiting.some((number) => this.#fact(number).lease !== null)) return null;
    const holding = living.filter((number) => state.lives[number] !== QUEUED);
    const ended = this.#with(this.#with(state, waiting, CANCELLED), holding, RELEASED);
    const free = new Set(state.free);
    for (const number of holding) for (const gpu of this.#fact(number).lease?.gpus ?? []) free.add(gpu);
    return this.#serve({ ...ended, line: state.line.filter((number) => !waiting.includes(number)), free });
  }

  /** See 3. */
  #serve(state: HostState): HostState | null {
    let next: HostState | null = state;
    for (;;) {
      const { free, line }: HostState = next;
      const served = line.find((number) => this.#fact(number).wanted.gpus <= free.size);
      if (served === undefined) return next;
      const left = { ...this.#with(next, [served], OFFERED), line: line.filter((number) => number !== served) };
      next = this.#grant(left, served);
      if (next === null) return null;
    }
  }

  #endService(state: HostState, service: string, released: readonly string[]): HostState | null {
    const living = [...state.lives.keys()].filter((number) => {
      const life = state.lives[number];
      return this.#fact(number).wanted.service === service && (life === QUEUED || life === OFFERED || life === LEASED);
    });
    const told = new Set(released);
    if (told.size !== living.length || !living.every((number) => told.has(this.#fact(number).id))) return null;
    return this.#end(state, living);
  }

  /** A record, as its owner is shown it: with that an offer is claimed. */
  #show(state: HostState, shown: Shown): HostState | null {
    const number = this.#number(shown.id);
    const life = state.lives[number];
    const next = life === OFFERED ? this.#with(state, [number], LEASED) : state;
    return this.#isShown(next, shown) ? next : null;
  }

  #isShown(state: HostState, shown: Shown): boolean {
    const number = this.#number(shown.id);
    const life = state.lives[number] as number;
    if (WORDS[life] !== shown.status) return false;
    switch (life) {
      case QUEUED:
        return shown.position === null || state.line[shown.position - 1] === number;
      case CANCELLED:
        return shown.lease === null && shown.endReason === "cancelled";
      case RELEASED:
        return this.#isLease(number, shown.lease) && shown.endReason === "released";
      default:
        return this.#isLease(number, shown.lease);
    }
  }

  #lists(state: HostState, held: readonly Shown[], queue: readonly string[]): boolean {
    const holding = state.lives.filter((life) => life === OFFERED || life === LEASED).length;
    if (held.length !== holding || !held.every((shown) => this.#isShown(state, shown))) return false;
    return queue.length === state.line.length && queue.every((id, i) => state.line[i] === this.#number(id));
  }

  #isStatus(state: HostState, holders: ReadonlyMap<string, string | null>): boolean {
    for (const [gpu, id] of holders) {
      if (id === null) {
        if (!state.free.has(gpu)) return false;
      } else if (state.free.has(gpu) || !this.#isHolder(state, id, gpu)) return false;
    }
    return true;
  }

  #isHolder(state: HostState, id: string, gpu: string): boolean {
    const life = this.#life(state, id);
    const { lease } = this.#fact(this.#number(id));
    return (life === OFFERED || life === LEASED) && lease?.gpus.includes(gpu) === true;
  }

  #isLease(number: number, shown: Lease | null): boolean {
    const { lease } = this.#fact(number);
    return lease !== null && shown?.token === lease.token && shown.gpus.join() === lease.gpus.join();
  }

  #with(state: HostState, numbers: readonly number[], life: number): HostState {
    if (numbers.length === 0) return state;
    const lives = state.lives.slice();
    for (const number of numbers) lives[number] = life;
    return { ...state, lives };
  }

  #life(state: HostState, id: string): number {
    return state.lives[this.#number(id)] as number;
  }

  /** @throws Error for an id that no allocate of the history was answered with. */
  #number(id: string): number {
    const number = this.#numbers.get(id);
    if (number === undefined) throw new Error(`${id} is not of this history`);
    return number;
  }

  #fact(number: number): Fact {
    return this.#facts[number] as Fact;
  }

  #token(number: number): number {
    return this.#fact(number).lease?.token ?? 0;
  }
}
