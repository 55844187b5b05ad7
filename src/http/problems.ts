/** Every refusal as RFC 9457 (problem details) has it: the only place that knows which error is which status. */
import { randomUUID } from "node:crypto";
import { DomainError, type ErrorCode, QuotaError } from "../core/errors.ts";
import { printable } from "../platform/printable.ts";
import { type Answer, NOT_STORED } from "./answers.ts";

/** Refusals that the HTTP room makes itself. */
export const HTTP_ERROR_CODES = [
  "malformed-request",
  "malformed-json",
  "unauthenticated",
  "role-too-low",
  "foreign-host",
  "foreign-origin",
  "not-found",
  "method-not-allowed",
  "request-timeout",
  "body-too-large",
  "unsupported-media-type",
  "validation-failed",
  "idempotency-key-in-use",
  "idempotency-key-reused",
  "headers-too-large",
  "internal-error",
  "not-ready",
  "too-many-streams",
] as const;
export type HttpErrorCode = (typeof HTTP_ERROR_CODES)[number];
export type ProblemCode = ErrorCode | HttpErrorCode;

interface ProblemKind {
  readonly status: number;
  readonly title: string;
  /** When trying again may help. */
  readonly retryAfterSeconds?: number;
}

export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = {
  "request-never-fits": { status: 422, title: "Request can never fit this host" },
  "queue-full": { status: 503, title: "The queue is full", retryAfterSeconds: 10 },
  "no-gpu-free": { status: 503, title: "No GPU is free now", retryAfterSeconds: 5 },
  quota: { status: 429, title: "Over the quota of its principal or service" },
  "gpus-unavailable": { status: 503, title: "No GPU has a current reading", retryAfterSeconds: 10 },
  "allocation-not-found": { status: 404, title: "No such allocation" },
  "gpu-not-found": { status: 404, title: "No such GPU" },
  "gpu-in-use": { status: 409, title: "The GPU is in use" },
  "adoption-disabled": { status: 409, title: "The settings do not allow adoption" },
  "nothing-to-adopt": { status: 409, title: "Nobody without a lease uses the GPU" },
  "delivery-not-found": { status: 404, title: "No such webhook delivery" },
  "delivery-withdrawn": { status: 409, title: "The webhook tells of a grant that is over" },
  "allocation-ended": { status: 409, title: "The allocation has ended" },
  "fencing-token-mismatch": { status: 409, title: "Wrong fencing token" },
  "not-owner": { status: 403, title: "Belongs to another principal" },
  "storage-unavailable": { status: 503, title: "The change could not be stored", retryAfterSeconds: 5 },
  overloaded: { status: 503, title: "Too many requests wait to be decided", retryAfterSeconds: 1 },
  "usage-busy": { status: 503, title: "Other usage reports are being made", retryAfterSeconds: 2 },
  "period-too-large": { status: 422, title: "The period is too large for one report" },
  "shutting-down": { status: 503, title: "The daemon is shutting down", retryAfterSeconds: 5 },
  "malformed-request": { status: 400, title: "Malformed HTTP request" },
  "malformed-json": { status: 400, title: "The body is not JSON" },
  unauthenticated: { status: 401, title: "A valid API key is needed" },
  "role-too-low": { status: 403, title: "The key's role does not allow this" },
  "foreign-host": { status: 403, title: "The Host is not one of this daemon's names" },
  "foreign-origin": { status: 403, title: "Sent by a page of another origin" },
  "not-found": { status: 404, title: "No such path" },
  "method-not-allowed": { status: 405, title: "Method not allowed" },
  "request-timeout": { status: 408, title: "The request took too long to arrive" },
  "body-too-large": { status: 413, title: "The body is too large" },
  "unsupported-media-type": { status: 415, title: "The body must be JSON" },
  "validation-failed": { status: 422, title: "The request is not valid" },
  "idempotency-key-in-use": { status: 409, title: "The same request is under way", retryAfterSeconds: 1 },
  "idempotency-key-reused": { status: 422, title: "The Idempotency-Key belongs to another request" },
  "headers-too-large": { status: 431, title: "The header fields are too large" },
  "internal-error": { status: 500, title: "Internal error" },
  "not-ready": { status: 503, title: "Not ready", retryAfterSeconds: 5 },
  "too-many-streams": { status: 503, title: "No more event streams can be opened", retryAfterSeconds: 10 },
};

export const PROBLEM_TYPE = "application/problem+json";
/** Where `/docs/problems` explains a code; relative to wherever the daemon is reached. */
export function problemType(code: ProblemCode): string {
  return `/docs/problems#${code}`;
}

export interface FieldError {
  /** Such as `workload_data.required_gpus`; empty for the whole body. */
  readonly path: string;
  readonly message: string;
}

/** A refusal before the scheduler was asked. */
export class HttpError extends Error {
  readonly code: HttpErrorCode;
  readonly headers: readonly string[];
  readonly errors: readonly FieldError[] | null;

  constructor(
    code: HttpErrorCode,
    detail: string,
    more: { readonly headers?: readonly string[]; readonly errors?: readonly FieldError[] } = {},
  ) {
    super(detail);
    this.code = code;
    this.headers = more.headers ?? [];
    this.errors = more.errors ?? null;
  }
}

export function invalid(errors: readonly FieldError[]): HttpError {
  const first = errors[0];
  const where = first === undefined || first.path === "" ? "" : `${first.path}: `;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : "";
  return new HttpError("validation-failed", `${where}${first?.message ?? "not valid"}${more}`, { errors });
}

/**
 * The answer to an error.
 *
 * @param onBug is given what is neither a refusal of the core nor one of this room, with the request's id: it is
 *   answered as a bare 500, and nothing of it leaves the process.
 */
export function problemAnswer(error: unknown, onBug: (error: unknown, requestId: string) => void): Answer {
  const requestId = randomUUID();
  if (error instanceof HttpError) return problem(error.code, error.message, requestId, error.headers, error.errors);
  if (error instanceof QuotaError) return problem(error.code, error.message, requestId, retryHeaders(error), null);
  if (error instanceof DomainError) return problem(error.code, error.message, requestId, [], null);
  onBug(error, requestId);
  return problem("internal-error", "the cause is in the daemon's log, under this instance's id", requestId, [], null);
}

/** When to try again depends on the quota; for what it never allows there is no such time. */
function retryHeaders({ retryAfterMs }: QuotaError): readonly string[] {
  return retryAfterMs === null ? [] : ["Retry-After", String(Math.ceil(retryAfterMs / 1_000))];
}

function problem(
  code: ProblemCode,
  detail: string,
  requestId: string,
  headers: readonly string[],
  errors: readonly FieldError[] | null,
): Answer {
  const { status, title, retryAfterSeconds } = PROBLEMS[code];
  const retry = retryAfterSeconds === undefined ? [] : ["Retry-After", String(retryAfterSeconds)];
  const body = {
    type: problemType(code),
    title,
    status,
    detail: printable(detail),
    instance: `urn:uuid:${requestId}`,
    code,
    ...(errors === null ? {} : { errors }),
  };
  return {
    status,
    type: PROBLEM_TYPE,
    body: JSON.stringify(body),
    headers: [...NOT_STORED, "X-Request-Id", requestId, ...retry, ...headers],
  };
}
