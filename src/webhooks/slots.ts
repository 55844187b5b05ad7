import type { PendingDelivery as Pending } from "../ports/webhooks.ts";

type PendingDelivery = Pending<string>;

/** Receivers of one principal that are remembered; beyond this the one that was met first is forgotten. */
const MAX_RECEIVERS_PER_PRINCIPAL = 256;
/** Principals whose receivers are remembered. */
const MAX_PRINCIPALS = 10_000;
/** One slot of so many is kept for principals that have none. */
const RESERVED_PART = 8;

interface SlotLimits {
  /** Attempts in flight, over all receivers. */
  readonly overall: number;
  /** Attempts in flight to one receiver. */
  readonly perReceiver: number;
}

/** What the last attempt at a receiver came to; a receiver that was never tried, or is forgotten, is unknown. */
type Standing = "good" | "silent" | "unknown";

/**
 * Which deliveries may be under way at once.
 *
 * 1. A delivery has at most one attempt in flight, and so has its subject (an allocation, or the host): of the subject's due
 *    notifications, the one created first goes first. The next waits for the end of that attempt, not for its success.
 * 2. A receiver (scheme, host and port) has at most `perReceiver` attempts in flight.
 * 3. A receiver whose last attempt ended without any answer is silent, and has one at a time. Silent and unknown ones
 *    together have at most half of the slots, so that a receiver known to answer never waits for one that may not.
 * 4. The principal with the fewest attempts in flight goes first, and the last eighth of the slots, of the half in 3
 *    too, is for principals that have none: nobody's webhooks wait for another's to time out.
 */
export class Slots {
  #taken = 0;
  #unprovenTaken = 0;
  readonly #deliveries = new Map<string, { readonly proven: boolean }>();
  readonly #subjects = new Set<string>();
  readonly #perReceiver = new Map<string, number>();
  readonly #perPrincipal = new Map<string, number>();
  /** Per principal, so that nobody can make another's receivers forgotten. */
  readonly #standings = new Map<string, Map<string, Exclude<Standing, "unknown">>>();

  get taken(): number {
    return this.#taken;
  }

  /** Takes slots for as many of `due` as the limits allow, and returns those. See 4 for the order. */
  take(
    due: readonly PendingDelivery[],
    limits: SlotLimits,
    held: (delivery: PendingDelivery) => boolean,
  ): PendingDelivery[] {
    const first = firstOfEachSubject(due);
    const started: PendingDelivery[] = [];
    const receivers = new Map<string, string>();
    const lines = [...Map.groupBy(due, principalOf)].map(([principal, rows]) => ({ principal, rows, next: 0 }));
    for (let level = 0; level < limits.overall && this.#taken < limits.overall; level++) {
      for (const line of lines) {
        if ((this.#perPrincipal.get(line.principal) ?? 0) > level) continue;
        while (line.next < line.rows.length) {
          const delivery = line.rows[line.next++] as PendingDelivery;
          if (first.get(subjectOf(delivery)) !== delivery) continue;
          if (this.#subjects.has(subjectOf(delivery)) || this.#deliveries.has(delivery.deliveryId)) continue;
          // Many rows have one URL, and parsing it is most of the work here.
          const receiver = receivers.get(delivery.url) ?? receiverOf(delivery.url);
          receivers.set(delivery.url, receiver);
          if (!this.#fits(line.principal, receiver, limits) || held(delivery)) continue;
          this.#occupy(delivery, receiver);
          started.push(delivery);
          break;
        }
      }
    }
    return started;
  }

  #fits(principal: string, receiver: string, { overall, perReceiver }: SlotLimits): boolean {
    const standing = this.#standingOf(principal, receiver);
    const busy = this.#perReceiver.get(receiver) ?? 0;
    if (busy >= (standing === "silent" ? 1 : perReceiver)) return false;
    const hasOne = this.#perPrincipal.has(principal);
    if (this.#taken >= available(overall, hasOne)) return false;
    if (standing === "good") return true;
    return this.#unprovenTaken < available(Math.max(1, Math.floor(overall / 2)), hasOne);
  }

  #occupy(delivery: PendingDelivery, receiver: string): void {
    const principal = principalOf(delivery);
    const proven = this.#standingOf(principal, receiver) === "good";
    this.#taken++;
    if (!proven) this.#unprovenTaken++;
    this.#deliveries.set(delivery.deliveryId, { proven });
    this.#subjects.add(subjectOf(delivery));
    count(this.#perReceiver, receiver, 1);
    count(this.#perPrincipal, principal, 1);
  }

  /** Gives the slot of a delivery back. `answered`: the receiver gave an HTTP status. */
  release(delivery: PendingDelivery, answered: boolean): void {
    const receiver = receiverOf(delivery.url);
    const principal = principalOf(delivery);
    this.#taken--;
    if (this.#deliveries.get(delivery.deliveryId)?.proven === false) this.#unprovenTaken--;
    this.#deliveries.delete(delivery.deliveryId);
    this.#subjects.delete(subjectOf(delivery));
    count(this.#perReceiver, receiver, -1);
    count(this.#perPrincipal, principal, -1);
    this.#remember(principal, receiver, answered ? "good" : "silent");
  }

  #standingOf(principal: string, receiver: string): Standing {
    return this.#standings.get(principal)?.get(receiver) ?? "unknown";
  }

  #remember(principal: string, receiver: string, standing: Exclude<Standing, "unknown">): void {
    let known = this.#standings.get(principal);
    if (known === undefined) {
      known = new Map();
      this.#standings.set(principal, known);
      if (this.#standings.size > MAX_PRINCIPALS) dropFirst(this.#standings);
    }
    // Again at the end: those met last are kept.
    known.delete(receiver);
    known.set(receiver, standing);
    if (known.size > MAX_RECEIVERS_PER_PRINCIPAL) dropFirst(known);
  }
}

/** How many of `slots` are there for a principal; see 4. */
function available(slots: number, hasOne: boolean): number {
  return hasOne ? slots - Math.floor(slots / RESERVED_PART) : slots;
}

function count(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const now = (counts.get(key) ?? 0) + by;
  if (now > 0) counts.set(key, now);
  else counts.delete(key);
}

function dropFirst(map: Map<string, unknown>): void {
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}

/** Scheme, host and port: what one process listens on. A text that is no URL stands for itself. */
export function receiverOf(url: string): string {
  return URL.parse(url)?.origin ?? url;
}

/** Whose webhook it is; the operator's have a share of their own. */
function principalOf({ principal }: PendingDelivery): string {
  return principal ?? "";
}

/** What a notification tells of: an allocation, a task, or all GPUs of the host (for the operator). See 1. */
function subjectOf({ allocationId, taskId, url }: PendingDelivery): string {
  return allocationId ?? taskId ?? url;
}

function firstOfEachSubject(due: readonly PendingDelivery[]): Map<string, PendingDelivery> {
  const first = new Map<string, PendingDelivery>();
  for (const delivery of due) {
    const known = first.get(subjectOf(delivery));
    // Ids grow with time, so they settle what the millisecond leaves open.
    if (known === undefined || compareCreation(delivery, known) < 0) first.set(subjectOf(delivery), delivery);
  }
  return first;
}

function compareCreation(a: PendingDelivery, b: PendingDelivery): number {
  if (a.createdAt !== b.createdAt) return a.createdAt - b.createdAt;
  return a.deliveryId < b.deliveryId ? -1 : a.deliveryId > b.deliveryId ? 1 : 0;
}
