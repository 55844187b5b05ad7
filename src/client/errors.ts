/** What can go wrong with a call: the daemon refused it, nobody answered, or a lease is lost. */

export interface FieldError {
  readonly path: string;
  readonly message: string;
}

/** The daemon's refusal, as its problem document (RFC 9457) has it. */
export class ApiProblem extends Error {
  override readonly name = "ApiProblem";
  readonly status: number;
  /** Stable: what programs decide by. `/docs/problems` explains each. */
  readonly code: string;
  readonly errors: readonly FieldError[];
  /** When asking again may help, in ms; `null`: the daemon does not say. */
  readonly retryAfterMs: number | null;

  constructor(
    status: number,
    code: string,
    detail: string,
    more: { readonly errors?: readonly FieldError[]; readonly retryAfterMs?: number | null } = {},
  ) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = more.errors ?? [];
    this.retryAfterMs = more.retryAfterMs ?? null;
  }
}

/** A daemon that cannot ask its kernel does not learn who calls over its socket. */
export class Unproven extends ApiProblem {
  constructor(detail: string) {
    super(401, "unauthenticated", detail);
  }
}

/** No answer came. Whether the daemon has done what it was asked is not known, unless `refused`. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
  /** Nobody listens there: the call did not arrive anywhere. */
  readonly refused: boolean;

  constructor(message: string, refused: boolean, cause?: unknown) {
    super(message, { cause });
    this.refused = refused;
  }
}

/** The GPUs may be somebody else's from now on: stop using them. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
  readonly allocationId: string;
  /** The record's `end_reason`, or `silence`: no renewal was confirmed in time. */
  readonly reason: string;

  constructor(allocationId: string, reason: string, detail: string) {
    super(detail);
    this.allocationId = allocationId;
    this.reason = reason;
  }
}

/** A request that ended without having been granted. */
export class NotGranted extends Error {
  override readonly name = "NotGranted";
  /** `null`: it was not even queued. */
  readonly allocationId: string | null;
  /** The record's `end_reason`, such as `timed_out` or `cancelled`. */
  readonly reason: string;

  constructor(allocationId: string | null, reason: string, detail: string) {
    super(detail);
    this.allocationId = allocationId;
    this.reason = reason;
  }
}
