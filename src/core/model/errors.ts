import type { AllocationId } from "./ids.ts";

/** Every refusal that a user can meet. `http/refusals.ts` must have an entry for each, or it does not compile. */
export const ERROR_CODES = [
  "request-never-fits",
  "queue-full",
  "no-gpu-free",
  "quota",
  "gpus-unavailable",
  "allocation-not-found",
  "gpu-not-found",
  "delivery-not-found",
  "delivery-withdrawn",
  "key-not-found",
  "keys-in-file",
  "too-many-keys",
  "revocation-not-durable",
  "gpu-in-use",
  "adoption-disabled",
  "nothing-to-adopt",
  "allocation-ended",
  "extension-refused",
  "nudge-refused",
  "nudged-lately",
  "reservation-refused",
  "reservation-not-found",
  "fencing-token-mismatch",
  "not-owner",
  "pid-not-visible",
  "storage-unavailable",
  "overloaded",
  "usage-busy",
  "period-too-large",
  "shutting-down",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** A refusal: nothing has changed. Carries facts; knows nothing of HTTP. */
export abstract class DomainError extends Error {
  abstract readonly code: ErrorCode;
}

/** No GPU of the inventory, or too few of them, could ever hold the request. */
export class RequestNeverFitsError extends DomainError {
  readonly code = "request-never-fits";
}

export class QueueFullError extends DomainError {
  readonly code = "queue-full";
  readonly limit: number;
  constructor(limit: number) {
    super(`the queue holds ${limit} requests, its limit`);
    this.limit = limit;
  }
}

/** The caller did not want to queue, and nothing is free now. */
export class NoGpuFreeError extends DomainError {
  readonly code = "no-gpu-free";
}

/** The quota of its principal or its service forbids the request, for now or for good. */
export class QuotaError extends DomainError {
  readonly code = "quota";
  /** When asking again may help; `null`: it never does, under this quota. */
  readonly retryAfterMs: number | null;
  constructor(reason: string, retryAfterMs: number | null) {
    super(reason);
    this.retryAfterMs = retryAfterMs;
  }
}

/** No GPU has a current reading, so nothing can be said about any of them. */
export class GpusUnavailableError extends DomainError {
  readonly code = "gpus-unavailable";
}

export class AllocationNotFoundError extends DomainError {
  readonly code = "allocation-not-found";
  constructor(id: AllocationId) {
    super(`there is no allocation ${JSON.stringify(id)}`);
  }
}

export class GpuNotFoundError extends DomainError {
  readonly code = "gpu-not-found";
  constructor(name: string) {
    super(`there is no GPU ${JSON.stringify(name)} in the inventory`);
  }
}

/** It is leased, being reclaimed or there to be seen, so it cannot be struck off the inventory. */
export class GpuInUseError extends DomainError {
  readonly code = "gpu-in-use";
}

/** The settings do not let admins make leases of others' use. */
export class AdoptionDisabledError extends DomainError {
  readonly code = "adoption-disabled";
  constructor() {
    super("allocator.foreign_use is not adopt");
  }
}

/** Nobody without a lease is seen to use the GPU, or not the process that was named. */
export class NothingToAdoptError extends DomainError {
  readonly code = "nothing-to-adopt";
}

export class AllocationEndedError extends DomainError {
  readonly code = "allocation-ended";
  constructor(id: AllocationId) {
    super(`allocation ${id} has ended`);
  }
}

/** A later end would take from others what they were promised, or there is no end to be moved. */
export class ExtensionRefusedError extends DomainError {
  readonly code = "extension-refused";
}

/** There is no holder to write to: the request waits. */
export class NudgeRefusedError extends DomainError {
  readonly code = "nudge-refused";
}

/** Its holder was written to a moment ago. */
export class NudgedLatelyError extends DomainError {
  readonly code = "nudged-lately";
  readonly retryAfterMs: number;
  constructor(id: AllocationId, retryAfterMs: number) {
    super(`somebody has just sent the holder of ${id} a message`);
    this.retryAfterMs = retryAfterMs;
  }
}

/** GPUs cannot be kept so: others hold them or were promised them then, or nothing more is kept of anybody. */
export class ReservationRefusedError extends DomainError {
  readonly code = "reservation-refused";
}

export class ReservationNotFoundError extends DomainError {
  readonly code = "reservation-not-found";
  constructor(id: string) {
    super(`there is no reservation ${JSON.stringify(id)}, or it is over`);
  }
}

export class FencingTokenMismatchError extends DomainError {
  readonly code = "fencing-token-mismatch";
  constructor(id: AllocationId, given: number) {
    super(`${given} is not the fencing token of ${id}`);
  }
}

export class NotOwnerError extends DomainError {
  readonly code = "not-owner";
  constructor(what: string) {
    super(`${what} belongs to another principal`);
  }
}
