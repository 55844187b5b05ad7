/**
 * Who has the server's connections, and who makes room when there are no more: each costs a descriptor, and the ones
 * that are left are for `nvidia-smi`, the database and webhooks.
 *
 *  1. One address may have all of them while nobody else asks.
 *  2. When they are all taken, whoever has most makes room: with the connection that has been idle longest, and only if
 *     it has none, and at least twice as many as the newcomer's address, with its oldest.
 */

/** One connection, as far as room is concerned. */
export interface Place {
  readonly address: string;
  /** Gives its connection up. */
  readonly leave: () => void;
}

interface Group {
  /** The oldest first. */
  readonly all: Set<Place>;
  /** Without a request under way; the longest idle first. */
  readonly idle: Set<Place>;
}

export class Crowd {
  readonly #max: number;
  readonly #groups = new Map<string, Group>();
  #size = 0;
  /** How many connections had to make room for others, or found none. */
  crowdedOut = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  /** @returns false when there is no room: the newcomer is to leave. */
  enter(place: Place): boolean {
    if (this.#size >= this.#max) {
      this.crowdedOut++;
      const leaving = this.#whoLeaves(place.address);
      if (leaving === null) return false;
      this.left(leaving);
      leaving.leave();
    }
    let group = this.#groups.get(place.address);
    if (group === undefined) {
      group = { all: new Set(), idle: new Set() };
      this.#groups.set(place.address, group);
    }
    group.all.add(place);
    group.idle.add(place);
    this.#size++;
    return true;
  }

  busy(place: Place): void {
    this.#groups.get(place.address)?.idle.delete(place);
  }

  idle(place: Place): void {
    const group = this.#groups.get(place.address);
    if (group?.all.has(place)) group.idle.add(place);
  }

  left(place: Place): void {
    const group = this.#groups.get(place.address);
    if (group?.all.delete(place) !== true) return;
    group.idle.delete(place);
    this.#size--;
    if (group.all.size === 0) this.#groups.delete(place.address);
  }

  #whoLeaves(newcomer: string): Place | null {
    let most: Group | null = null;
    for (const group of this.#groups.values()) if (most === null || group.all.size > most.all.size) most = group;
    if (most === null) return null;
    const [idle] = most.idle;
    if (idle !== undefined) return idle;
    const own = this.#groups.get(newcomer)?.all.size ?? 0;
    const [oldest] = most.all;
    return oldest !== undefined && most.all.size >= 2 * (own + 1) ? oldest : null;
  }
}
