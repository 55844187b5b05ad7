/**
 * What the clients of a daemon know, and what its database holds after each kill: all that the checker goes by.
 *
 * Instants are `performance.now()` of the test's process, in ms. Instants that the daemon tells are milliseconds since
 * the epoch, on its own clock.
 */

/** One wish of a client. It may be sent more than once, when no answer comes. */
export interface Ask {
  /** Unique; stands in `workload_data`, so that a record tells which wish it came from. */
  readonly mark: string;
  readonly service: string;
  readonly gpus: number;
  /** Whole seconds; `null`: no end. */
  readonly ttlSeconds: number | null;
  readonly queue: boolean;
  readonly webhookUrl: string | null;
}

export type Action =
  | { readonly what: "allocate"; readonly ask: Ask; readonly key: string | null }
  | {
      readonly what: "release" | "renew";
      readonly id: string;
      /** The lease's, as the client was told it; `null`: it gives none. */
      readonly token: number | null;
    }
  | { readonly what: "read"; readonly id: string }
  | { readonly what: "release-service"; readonly service: string }
  | { readonly what: "list" };

export interface AnswerSeen {
  readonly at: number;
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests.
  readonly body: any;
}

export interface Call {
  readonly client: string;
  readonly action: Action;
  readonly invokedAt: number;
  /** `null`: the connection broke, and nobody knows what came of it. */
  readonly answer: AnswerSeen | null;
}

export const STATUSES = ["queued", "offered", "leased", "ended"] as const;
export type Status = (typeof STATUSES)[number];

export interface LeaseSeen {
  readonly gpus: readonly string[];
  readonly token: number;
  /** By the daemon's clock; `null`: no end. */
  readonly expiresAt: number | null;
}

export interface OutcomeSeen {
  readonly reason: string;
  /** By the daemon's clock. */
  readonly at: number;
}

export interface SurvivingRecord {
  readonly id: string;
  readonly mark: string;
  readonly status: Status;
  readonly lease: LeaseSeen | null;
  readonly outcome: OutcomeSeen | null;
}

export interface OutboxRow {
  readonly deliveryId: string;
  readonly allocationId: string;
  readonly status: string;
  readonly state: "pending" | "delivered" | "gave-up" | "withdrawn";
}

/** Of the journal, what the checker looks at; in order. */
export interface Journalled {
  readonly seq: number;
  readonly type: string;
  readonly id: string | null;
  /** Of `granted` events. */
  readonly token: number | null;
  /** A grant that was not answered at once: from the queue, or after a hang-up. */
  readonly offered: boolean;
}

/** The database file as a kill left it. */
export interface Survivors {
  readonly readAt: number;
  readonly records: readonly SurvivingRecord[];
  readonly outbox: readonly OutboxRow[];
  /** From the first event on. */
  readonly journal: readonly Journalled[];
  /** By `Idempotency-Key`: the allocations that are kept under it. */
  readonly keys: ReadonlyMap<string, readonly string[]>;
}

export interface Delivery {
  readonly at: number;
  readonly deliveryId: string;
  readonly allocationId: string;
  readonly status: string;
  /** `null` when the body tells of none. */
  readonly lease: LeaseSeen | null;
}

export interface History {
  readonly calls: Call[];
  /** One for each kill, in order. */
  readonly survivors: Survivors[];
  readonly deliveries: Delivery[];
}
