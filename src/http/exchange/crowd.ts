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
  /** Since which turn of the count of such moments no request is under way; `null`: one is. */
  idleSince: number | null;
}

/**
 * The oldest first. What changes with every request stands in the places: a set that each request leaves and enters is
 * made anew again and again, and V8 keeps what was in the old ones until it looks through the whole heap.
 */
type Group = Set<Place>;

export class Crowd {
  readonly #max: number;
  readonly #groups = new Map<string, Group>();
  #size = 0;
  #idleMoments = 0;
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
      group = new Set();
      this.#groups.set(place.address, group);
    }
    group.add(place);
    place.idleSince = this.#idleMoments++;
    this.#size++;
    return true;
  }

  busy(place: Place): void {
    place.idleSince = null;
  }

  idle(place: Place): void {
    place.idleSince = this.#idleMoments++;
  }

  left(place: Place): void {
    const group = this.#groups.get(place.address);
    if (group?.delete(place) !== true) return;
    this.#size--;
    if (group.size === 0) this.#groups.delete(place.address);
  }

  #whoLeaves(newcomer: string): Place | null {
    let most: Group | null = null;
    for (const group of this.#groups.values()) if (most === null || group.size > most.size) most = group;
    if (most === null) return null;
    const idle = longestIdle(most);
    if (idle !== null) return idle;
    const own = this.#groups.get(newcomer)?.size ?? 0;
    const [oldest] = most;
    return oldest !== undefined && most.size >= 2 * (own + 1) ? oldest : null;
  }
}

function longestIdle(group: Group): Place | null {
  let found: Place | null = null;
  let since = Number.POSITIVE_INFINITY;
  for (const place of group) {
    if (place.idleSince === null || place.idleSince >= since) continue;
    found = place;
    since = place.idleSince;
  }
  return found;
}
