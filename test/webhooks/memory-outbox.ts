import type { EpochMs } from "../../src/core/base/time.ts";
import type { DeliverySettlement, Outbox, PendingDelivery } from "../../src/ports/webhooks.ts";

/** An outbox that is a map. Keeps the settlements for the test to see. */
export class MemoryOutbox implements Outbox {
  readonly settlements: DeliverySettlement[] = [];
  /** Limits of the readings so far. */
  readonly reads: number[] = [];
  /** Set it to make the next settlements fail. */
  refuse: Error | null = null;
  refused = 0;
  readonly #rows = new Map<string, PendingDelivery>();

  get size(): number {
    return this.#rows.size;
  }

  add(row: Pick<PendingDelivery, "deliveryId" | "url" | "createdAt"> & Partial<PendingDelivery>): PendingDelivery {
    const full: PendingDelivery = {
      allocationId: `alloc-${row.deliveryId}`,
      principal: "alice",
      status: "allocated",
      body: `{"id":"${row.deliveryId}"}`,
      attempts: 0,
      nextAttemptAt: row.createdAt,
      ...row,
    };
    this.#rows.set(full.deliveryId, full);
    return full;
  }

  remove(deliveryId: string): void {
    this.#rows.delete(deliveryId);
  }

  due(now: EpochMs, limit: number): readonly PendingDelivery[] {
    this.reads.push(limit);
    return this.#inOrder()
      .filter((row) => row.nextAttemptAt <= now)
      .slice(0, limit);
  }

  nextDueAt(): EpochMs | null {
    return this.#inOrder()[0]?.nextAttemptAt ?? null;
  }

  settle = async (settlement: DeliverySettlement): Promise<void> => {
    if (this.refuse !== null) {
      this.refused++;
      throw this.refuse;
    }
    this.settlements.push(settlement);
    const row = this.#rows.get(settlement.deliveryId);
    if (row === undefined) return;
    if (settlement.nextAttemptAt === null) this.#rows.delete(row.deliveryId);
    else this.add({ ...row, attempts: row.attempts + 1, nextAttemptAt: settlement.nextAttemptAt });
  };

  #inOrder(): PendingDelivery[] {
    return [...this.#rows.values()].sort(
      (a, b) => a.nextAttemptAt - b.nextAttemptAt || (a.deliveryId < b.deliveryId ? -1 : 1),
    );
  }
}
