/** A host that serves one call at a time, made anew for these tests: where histories come from that must be possible. */
import type { Lease, Shown, Step, Wanted } from "./steps.ts";

interface Record {
  readonly id: string;
  readonly wanted: Wanted;
  status: "queued" | "offered" | "leased" | "ended";
  lease: Lease | null;
}

export class ToyHost {
  readonly #free: Set<string>;
  readonly #records: Record[] = [];
  #token = 100;

  constructor(gpus: readonly string[]) {
    this.#free = new Set(gpus);
  }

  /** Any of its requests, by a number; `null` when there is none yet. */
  idOf(n: number): string | null {
    return this.#records[n % this.#records.length]?.id ?? null;
  }

  allocate(wanted: Wanted, queue: boolean): Step {
    if (!queue && wanted.gpus > this.#free.size) return { call: "refused", wanted };
    const record: Record = { id: `r${this.#records.length}`, wanted, status: "queued", lease: null };
    this.#records.push(record);
    this.#serve("leased");
    const shown = this.#show(record);
    return { call: "allocate", wanted, shown: shown.status === "leased" ? { ...shown, status: "allocated" } : shown };
  }

  release(id: string): Step {
    this.#end(this.#of(id));
    this.#serve("offered");
    return { call: "release", id };
  }

  releaseService(service: string): Step {
    const living = this.#records.filter(({ wanted, status }) => wanted.service === service && status !== "ended");
    for (const record of living) this.#end(record);
    this.#serve("offered");
    return { call: "release-service", service, released: living.map(({ id }) => id) };
  }

  read(id: string, call: "read" | "renew"): Step {
    const record = this.#of(id);
    if (record.status === "ended" && call === "renew") return { call: "renew-ended", id };
    if (record.status === "offered") record.status = "leased";
    return { call, shown: this.#show(record) };
  }

  list(): Step {
    const held = this.#records.filter(({ status }) => status === "offered" || status === "leased");
    return { call: "list", held: held.map((record) => this.#show(record)), queue: this.#line().map(({ id }) => id) };
  }

  status(): Step {
    const holders = new Map<string, string | null>([...this.#free].map((gpu) => [gpu, null]));
    for (const { id, lease, status } of this.#records) {
      if (status !== "ended") for (const gpu of lease?.gpus ?? []) holders.set(gpu, id);
    }
    return { call: "status", holders };
  }

  #of(id: string): Record {
    return this.#records.find((record) => record.id === id) as Record;
  }

  #line(): Record[] {
    const waiting = this.#records.filter(({ status }) => status === "queued");
    return waiting.sort((a, b) => b.wanted.priority - a.wanted.priority);
  }

  #end(record: Record): void {
    if (record.status === "offered" || record.status === "leased") {
      for (const gpu of record.lease?.gpus ?? []) this.#free.add(gpu);
    }
    record.status = "ended";
  }

  #serve(as: "offered" | "leased"): void {
    for (;;) {
      const next = this.#line().find(({ wanted }) => wanted.gpus <= this.#free.size);
      if (next === undefined) return;
      const gpus = [...this.#free].slice(0, next.wanted.gpus).sort();
      for (const gpu of gpus) this.#free.delete(gpu);
      next.lease = { gpus, token: this.#token++ };
      next.status = as;
    }
  }

  #show(record: Record): Shown {
    const { id, status, lease } = record;
    const position = status === "queued" ? this.#line().indexOf(record) + 1 : null;
    const endReason = status === "ended" ? (lease === null ? "cancelled" : "released") : null;
    return { id, status, lease, position, endReason };
  }
}
