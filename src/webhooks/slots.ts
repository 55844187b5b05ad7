import type { PendingDelivery } from "../ports/webhooks.ts";

/** Receivers that are remembered as silent; beyond this the one that was noticed first is forgotten. */
const MAX_SILENT_RECEIVERS = 1_024;

interface SlotLimits {
  /** Attempts in flight, over all receivers. */
  readonly overall: number;
  /** Attempts in flight to one receiver. */
  readonly perReceiver: number;
}

/**
 * Which deliveries may be under way at once.
 *
 * 1. A delivery has at most one attempt in flight, and so has its subject (an allocation, or the host): of the subject's due
 *    notifications, the one created first goes first. The next waits for the end of that attempt, not for its success.
 * 2. A receiver (scheme, host and port) has at most `perReceiver` attempts in flight.
 * 3. A receiver whose last attempt ended without any answer is silent: it has one at a time, and all silent ones
 *    together have at most half of the slots, so that dead receivers do not hold up living ones for long.
 */
export class Slots {
  #taken = 0;
  readonly #deliveries = new Set<string>();
  readonly #subjects = new Set<string>();
  readonly #perReceiver = new Map<string, number>();
  readonly #silent = new Set<string>();

  get taken(): number {
    return this.#taken;
  }

  /** Takes slots for as many of `due` as the limits allow, in the order given but for rule 1, and returns those. */
  take(
    due: readonly PendingDelivery[],
    limits: SlotLimits,
    held: (delivery: PendingDelivery) => boolean,
  ): PendingDelivery[] {
    const first = firstOfEachSubject(due);
    const silentLimit = Math.max(1, Math.floor(limits.overall / 2));
    let silentTaken = 0;
    for (const receiver of this.#silent) silentTaken += this.#perReceiver.get(receiver) ?? 0;
    const started: PendingDelivery[] = [];
    const receivers = new Map<string, string>();
    for (const delivery of due) {
      if (this.#taken >= limits.overall) break;
      if (first.get(subjectOf(delivery)) !== delivery) continue;
      if (this.#subjects.has(subjectOf(delivery)) || this.#deliveries.has(delivery.deliveryId)) continue;
      // Many rows have one URL, and parsing it is most of the work here.
      const receiver = receivers.get(delivery.url) ?? receiverOf(delivery.url);
      receivers.set(delivery.url, receiver);
      const busy = this.#perReceiver.get(receiver) ?? 0;
      const silent = this.#silent.has(receiver);
      if (busy >= (silent ? 1 : limits.perReceiver)) continue;
      if ((silent && silentTaken >= silentLimit) || held(delivery)) continue;
      if (silent) silentTaken++;
      this.#taken++;
      this.#deliveries.add(delivery.deliveryId);
      this.#subjects.add(subjectOf(delivery));
      this.#perReceiver.set(receiver, busy + 1);
      started.push(delivery);
    }
    return started;
  }

  /** Gives the slot of a delivery back. `answered`: the receiver gave an HTTP status. */
  release(delivery: PendingDelivery, answered: boolean): void {
    const receiver = receiverOf(delivery.url);
    const busy = this.#perReceiver.get(receiver) ?? 0;
    this.#taken--;
    this.#deliveries.delete(delivery.deliveryId);
    this.#subjects.delete(subjectOf(delivery));
    if (busy > 1) this.#perReceiver.set(receiver, busy - 1);
    else this.#perReceiver.delete(receiver);
    if (answered) this.#silent.delete(receiver);
    else this.#markSilent(receiver);
  }

  #markSilent(receiver: string): void {
    this.#silent.add(receiver);
    if (this.#silent.size <= MAX_SILENT_RECEIVERS) return;
    for (const oldest of this.#silent) {
      this.#silent.delete(oldest);
      return;
    }
  }
}

/** Scheme, host and port: what one process listens on. A text that is no URL stands for itself. */
export function receiverOf(url: string): string {
  return URL.parse(url)?.origin ?? url;
}

/** What a notification tells of: an allocation, or all GPUs of the host (for the operator). See 1. */
function subjectOf({ allocationId, url }: PendingDelivery): string {
  return allocationId ?? url;
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
