import type { EpochMs } from "../core/base/time.ts";
import type { AllocationId } from "../core/model/ids.ts";

export const NOTIFICATION_STATUSES = [
  "allocated",
  "expired",
  "cancelled",
  "unclaimed",
  "abandoned",
  "preempting",
  "revoked",
  "idle",
  "over_memory",
  "nudged",
  "foreign_use",
  "foreign_use_over",
  /** Of no event: somebody tries a receiver. */
  "test",
] as const;

export type NotificationStatus = (typeof NOTIFICATION_STATUSES)[number];

/** One webhook to send: a row of the outbox, written with the change that it tells of. */
export interface Notification<Status extends string = NotificationStatus> {
  /** The `webhook-id`: the same at every attempt, so that receivers can drop repeats. */
  readonly deliveryId: string;
  /** `null`: it tells the operator of a GPU. */
  readonly allocationId: AllocationId | null;
  readonly status: Status;
  readonly url: string;
  /** The exact JSON text to send. */
  readonly body: string;
  readonly createdAt: EpochMs;
}

export interface PendingDelivery<Status extends string = NotificationStatus> extends Notification<Status> {
  /** Whose allocation it tells of; `null`: it tells the operator of a GPU. */
  readonly principal: string | null;
  /** Attempts made so far. */
  readonly attempts: number;
  readonly nextAttemptAt: EpochMs;
  /** What it tells of, where that is no allocation: a task's webhooks come from books of their own. */
  readonly taskId?: string;
  /** Header fields that its sender asked for, in lower case; ours come before them. */
  readonly headers?: Readonly<Record<string, string>>;
}

export const DELIVERY_STATES = ["pending", "delivered", "gave-up", "withdrawn"] as const;

export type DeliveryState = (typeof DELIVERY_STATES)[number];

/** What became of one webhook so far. */
export interface DeliveryRecord extends Omit<Notification, "body"> {
  readonly state: DeliveryState;
  readonly attempts: number;
  /** Of a pending one. */
  readonly nextAttemptAt: EpochMs | null;
  readonly lastAttemptAt: EpochMs | null;
  /** Of all others. */
  readonly settledAt: EpochMs | null;
  /** Of the last attempt. */
  readonly httpStatus: number | null;
  readonly error: string | null;
}

export interface DeliveryQuery {
  readonly state: DeliveryState | null;
  readonly allocationId: AllocationId | null;
  /** The page begins after this one, newest first. */
  readonly before: string | null;
  readonly limit: number;
}

/** What came of one attempt to deliver. */
export interface DeliverySettlement<Status extends string = NotificationStatus> {
  readonly deliveryId: string;
  readonly allocationId: AllocationId | null;
  readonly status: Status;
  readonly at: EpochMs;
  readonly outcome: "delivered" | "retry" | "gave-up";
  /** Only with `retry`. */
  readonly nextAttemptAt: EpochMs | null;
  readonly httpStatus: number | null;
  readonly error: string | null;
}

/** What came of a webhook that was sent once, to see whether its receiver takes it. */
export interface TestOutcome {
  readonly deliveryId: string;
  /** `null`: there was no answer, and `error` says why. */
  readonly httpStatus: number | null;
  /** `null`: it was taken. */
  readonly error: string | null;
  /** Whether a secret signed it. */
  readonly isSigned: boolean;
  readonly tookMs: number;
}

/** Sends a webhook that tells of nothing. */
export interface WebhookTester {
  /**
   * @param principal whose secrets sign, as they do what tells of its allocations.
   * @param body the exact JSON text to send.
   * @returns `null`, without sending, while there are as many under way as there may be.
   */
  test(url: string, principal: string, body: string): Promise<TestOutcome | null>;
}

/** The webhooks' view of the store. */
export interface Outbox<Status extends string = NotificationStatus> {
  /**
   * Deliveries due at `now`. First the oldest of every principal, then the second oldest of every, and so on: however
   * many rows one of them has, the others' are on the first page.
   */
  due(now: EpochMs, limit: number): readonly PendingDelivery<Status>[];
  /** When the next undelivered one falls due; `null` when there is none. */
  nextDueAt(): EpochMs | null;
}
