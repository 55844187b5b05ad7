/**
 * Decides whether operations that overlapped could have happened one at a time: in an order in which each takes its
 * effect at one instant between its call and its answer, and gives the answer that it gave (Herlihy and Wing,
 * "Linearizability", 1990).
 *
 * The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993): try as the next one every operation
 * that no other must precede. As Lowe does ("Testing for linearizability", 2017), it remembers which operations had led
 * to which state, and never tries the same pair twice.
 *
 * As a rule operations are answered in the order of their effects, and where that is not so, few are out of it. So the
 * first searches go by the answers and may depart from their order only so many times (Harvey and Ginsberg, "Limited
 * discrepancy search", 1995). The last may do so without limit. It is exact: it ends with an order, or with the certainty
 * that there is none.
 */

/** Instants are on one clock, in any unit. */
export interface Operation<Step> {
  /** What was asked, and what was answered. */
  readonly step: Step;
  readonly invokedAt: number;
  readonly answeredAt: number;
}

/** What the object does when operations come one at a time. */
export interface Model<State, Step> {
  readonly initial: State;
  /**
   * The state after the step; `null` when such an answer cannot be given in this state. The very same state when the
   * step changes nothing, which then must be so in every later state in which the answer can be given: the search
   * takes such steps as soon as they are possible, and never later.
   */
  apply(state: State, step: Step): State | null;
  /** The same for states in which all the same can follow, and only for those. */
  key(state: State): string;
  /**
   * Whether `a` comes before `b` in every order that the model allows, whatever time says. It saves the search what it
   * would find out at length: `false` is always right.
   */
  mustPrecede(a: Operation<Step>, b: Operation<Step>): boolean;
  /** What the search goes by first, one after the other; it goes by none of them if that leads nowhere. */
  readonly guesses: readonly Guess<Step>[];
}

/** Whether `a` probably comes before `b`. */
export type Guess<Step> = (a: Operation<Step>, b: Operation<Step>) => boolean;

export interface Verdict<Step> {
  /** `undecided`: the history is too wide for so many visits of states. */
  readonly verdict: "linearizable" | "impossible" | "undecided";
  /** Of all operations, or else the longest that was found. */
  readonly order: readonly Operation<Step>[];
  /** What could not follow on it, by the time of the answers: the first of these is the one to look at. */
  readonly left: readonly Operation<Step>[];
}

/** How many times one search after the other may depart from the order of the answers. */
const DEPARTURES = [0, 1, 2, 3, 4, 6, 8, Number.POSITIVE_INFINITY];
/** States that are looked at, in all searches together, before they are given up. A history of ours takes some hundreds, at most thousands. */
const MOST_VISITS = 100_000;

export function linearize<State, Step>(
  history: readonly Operation<Step>[],
  model: Model<State, Step>,
  mostVisits = MOST_VISITS,
): Verdict<Step> {
  for (const guess of model.guesses) {
    const guessed = new Search(history, model, guess, mostVisits).run();
    if (guessed.verdict === "linearizable") return guessed;
  }
  return new Search(history, model, () => false, mostVisits).run();
}

class Search<State, Step> {
  /** By the time of their answers: mostly that is the order of their effects. */
  readonly #operations: readonly Operation<Step>[];
  readonly #model: Model<State, Step>;
  /** By position: the operations that each must precede. */
  readonly #successors: readonly (readonly number[])[];
  /** By position: how many that must precede it are not in the order yet. */
  readonly #waitsFor: Uint16Array;
  /** By position: 1 for those in the order. */
  readonly #taken: Uint8Array;
  readonly #order: number[] = [];
  /** With how many departures left the rest was looked for, and not found. */
  readonly #tried = new Map<string, number>();
  readonly #mostVisits: number;
  #visits = 0;
  #longest: readonly number[] = [];

  constructor(history: readonly Operation<Step>[], model: Model<State, Step>, guess: Guess<Step>, mostVisits: number) {
    this.#mostVisits = mostVisits;
    this.#operations = history.toSorted((a, b) => a.answeredAt - b.answeredAt);
    this.#model = model;
    this.#taken = new Uint8Array(history.length);
    this.#waitsFor = new Uint16Array(history.length);
    this.#successors = this.#operations.map((before) => {
      const successors: number[] = [];
      for (const [position, after] of this.#operations.entries()) {
        if (before === after) continue;
        const precedes =
          before.answeredAt < after.invokedAt || model.mustPrecede(before, after) || guess(before, after);
        if (precedes) successors.push(position);
      }
      for (const position of successors) (this.#waitsFor[position] as number)++;
      return successors;
    });
  }

  run(): Verdict<Step> {
    const found = DEPARTURES.some((departures) => this.#follow(this.#model.initial, departures));
    const verdict = found ? "linearizable" : this.#visits > this.#mostVisits ? "undecided" : "impossible";
    const order = (found ? this.#order : this.#longest).map((position) => this.#at(position));
    const taken = new Set(order);
    return { verdict, order, left: this.#operations.filter((operation) => !taken.has(operation)) };
  }

  /** Whether all that are left can follow on `state`; the order is as it was when they cannot. As deep as the history is long. */
  #follow(state: State, departures: number): boolean {
    const before = this.#order.length;
    this.#takeUnchanging(state);
    if (this.#order.length === this.#operations.length) return true;
    if (this.#order.length > this.#longest.length) this.#longest = [...this.#order];
    if (this.#isNew(state, departures)) {
      let left = departures;
      for (const position of this.#candidates()) {
        const next = this.#model.apply(state, this.#at(position).step);
        if (next === null) continue;
        this.#take(position);
        if (this.#follow(next, left)) return true;
        this.#untake();
        // Every further one is answered later.
        if (departures === 0) break;
        left = departures - 1;
      }
    }
    while (this.#order.length > before) this.#untake();
    return false;
  }

  #takeUnchanging(state: State): void {
    for (let found = true; found; ) {
      found = false;
      for (const position of this.#candidates()) {
        if (this.#model.apply(state, this.#at(position).step) !== state) continue;
        this.#take(position);
        found = true;
      }
    }
  }

  #candidates(): number[] {
    const found: number[] = [];
    for (const [position, waitsFor] of this.#waitsFor.entries()) {
      if (waitsFor === 0 && this.#taken[position] === 0) found.push(position);
    }
    return found;
  }

  #isNew(state: State, departures: number): boolean {
    const pair = `${Buffer.from(this.#taken).toString("latin1")}${this.#model.key(state)}`;
    if ((this.#tried.get(pair) ?? -1) >= departures) return false;
    this.#tried.set(pair, departures);
    return ++this.#visits <= this.#mostVisits;
  }

  #at(position: number): Operation<Step> {
    return this.#operations[position] as Operation<Step>;
  }

  #take(position: number): void {
    this.#taken[position] = 1;
    this.#order.push(position);
    for (const after of this.#successors[position] as readonly number[]) (this.#waitsFor[after] as number)--;
  }

  #untake(): void {
    const position = this.#order.pop() as number;
    this.#taken[position] = 0;
    for (const after of this.#successors[position] as readonly number[]) (this.#waitsFor[after] as number)++;
  }
}
