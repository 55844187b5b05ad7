import { DomainError } from "../core/model/errors.ts";

export class DeliveryNotFoundError extends DomainError {
  readonly code = "delivery-not-found";
  constructor(deliveryId: string) {
    super(`there is no webhook delivery ${JSON.stringify(deliveryId)}`);
  }
}

/** The webhook tells of a grant that has ended: a client that got it now would use GPUs that it no longer holds. */
export class DeliveryWithdrawnError extends DomainError {
  readonly code = "delivery-withdrawn";
  constructor(deliveryId: string) {
    super(`${deliveryId} tells of a grant that has ended`);
  }
}

/** The change could not be made durable, so it was not made. */
export class StorageUnavailableError extends DomainError {
  readonly code = "storage-unavailable";
}

/** More is waiting to be decided than the daemon keeps in memory. */
export class OverloadedError extends DomainError {
  readonly code = "overloaded";
  constructor() {
    super("too many commands are waiting to be decided");
  }
}

/** As many usage reports as are made at once are being made. */
export class UsageBusyError extends DomainError {
  readonly code = "usage-busy";
  constructor(limit: number) {
    super(`${limit} usage reports are being made, and no more at once`);
  }
}

/** A report over the period would cost more than one may. */
export class PeriodTooLargeError extends DomainError {
  readonly code = "period-too-large";
  constructor(limit: number, what: string) {
    super(`the period has more than ${limit} ${what}: ask for shorter ones, which add up`);
  }
}

export class ShuttingDownError extends DomainError {
  readonly code = "shutting-down";
  constructor() {
    super("the daemon is shutting down");
  }
}
