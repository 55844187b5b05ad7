/** Every refusal as RFC 9457 (problem details) has it. Each room brings a table of its own: which error is which status. */
import { randomUUID } from "node:crypto";
import { withoutKeys } from "../../platform/new-key.ts";
import { printable } from "../../platform/printable.ts";
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
  "limit-reached",
  "too-busy",
] as const;
export type HttpErrorCode = (typeof HTTP_ERROR_CODES)[number];

export interface ProblemKind {
  readonly status: number;
  readonly title: string;
  /** When trying again may help. */
  readonly retryAfterSeconds?: number;
}

/** What this room refuses by itself. */
export const EXCHANGE_PROBLEMS: Readonly<Record<HttpErrorCode, ProblemKind>> = {
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
  "limit-reached": { status: 429, title: "One client's share is used up", retryAfterSeconds: 1 },
  "too-busy": { status: 503, title: "Too much is under way", retryAfterSeconds: 1 },
  "too-many-streams": { status: 503, title: "No more event streams can be opened", retryAfterSeconds: 10 },
};

/** An error that refuses a request, and has changed nothing. */
export interface Refusal extends Error {
  readonly code: string;
  /** When asking again may help, in ms; `null`: it never does. Absent: as its kind says. */
  readonly retryAfterMs?: number | null;
  /** Of a body: what is wrong with each field. */
  readonly errors?: readonly FieldError[] | null;
  /** Further members of the problem document. */
  readonly members?: object;
}

/** The refusals of the rooms behind the server. */
export interface Refusals {
  /** The refusal that an error is; `null`: it is a bug. */
  readonly refusalIn: (error: unknown) => Refusal | null;
  readonly kinds: Readonly<Record<string, ProblemKind>>;
}

export const PROBLEM_TYPE = "application/problem+json";
/** Where `/docs/problems` explains a code; relative to wherever the daemon is reached. */
export function problemType(code: string): string {
  return `/docs/problems#${code}`;
}

export interface FieldError {
  /** Such as `workload_data.required_gpus`; empty for the whole body. */
  readonly path: string;
  readonly message: string;
}

interface MoreOfError {
  readonly headers?: readonly string[];
  readonly errors?: readonly FieldError[];
  readonly limit?: string;
  readonly retryAfterSeconds?: number;
}

/** A refusal before the scheduler was asked. */
export class HttpError extends Error {
  readonly code: HttpErrorCode;
  readonly headers: readonly string[];
  readonly errors: readonly FieldError[] | null;
  /** The setting whose limit is reached. */
  readonly limit: string | null;
  /** Other than its kind says. */
  readonly retryAfterSeconds: number | null;

  constructor(code: HttpErrorCode, detail: string, more: MoreOfError = {}) {
    super(detail);
    this.code = code;
    this.headers = more.headers ?? [];
    this.errors = more.errors ?? null;
    this.limit = more.limit ?? null;
    this.retryAfterSeconds = more.retryAfterSeconds ?? null;
  }
}

export function invalid(errors: readonly FieldError[]): HttpError {
  const first = errors[0];
  const where = first === undefined || first.path === "" ? "" : `${first.path}: `;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : "";
  return new HttpError("validation-failed", `${where}${first?.message ?? "not valid"}${more}`, { errors });
}

/** What a bug is answered with. */
export const BUG_CODE = "internal-error";

/** A refusal as the problem document has it. */
export interface RefusalWords {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

/** What an error refuses; `null`: nothing, it is a bug. */
export function refusalBy(error: unknown, refusals: Refusals): RefusalWords | null {
  const refusal = error instanceof HttpError ? error : refusals.refusalIn(error);
  if (refusal === null) return null;
  const { code, message } = refusal;
  const kind = refusal instanceof HttpError ? EXCHANGE_PROBLEMS[refusal.code] : refusals.kinds[code];
  return kind === undefined ? null : { status: kind.status, code, detail: printable(withoutKeys(message)) };
}

/**
 * The answer to an error.
 *
 * @param refusals is what the rooms behind this one refuse.
 * @param onBug is given what neither they nor this room refuse: it is answered as a bare 500, and nothing of it leaves the
 *   process.
 */
export function problemAnswer(
  error: unknown,
  refusals: Refusals,
  requestId: string,
  onBug: (error: unknown) => void,
): Answer {
  if (error instanceof HttpError) return exchangeProblem(error, requestId);
  const refusal = refusals.refusalIn(error);
  const kind = refusal === null ? undefined : refusals.kinds[refusal.code];
  if (refusal === null || kind === undefined) {
    onBug(error);
    return exchangeProblem(
      new HttpError(BUG_CODE, "the cause is in the daemon's log, under this instance's id"),
      requestId,
    );
  }
  const { code, message, retryAfterMs, errors = null, members = {} } = refusal;
  const own = retryAfterMs === undefined ? kind : retryingAt(kind, retryAfterMs);
  return problem(code, message, requestId, own, [], { ...(errors === null ? {} : { errors }), ...members });
}

/** The answer to a refusal of this room, in an exchange that has no other. */
export function exchangeProblem(error: HttpError, requestId: string = randomUUID()): Answer {
  const { code, message, headers, errors, limit, retryAfterSeconds } = error;
  const kind = EXCHANGE_PROBLEMS[code];
  const own = retryAfterSeconds === null ? kind : { ...kind, retryAfterSeconds };
  return problem(code, message, requestId, own, headers, {
    ...(errors === null ? {} : { errors }),
    ...(limit === null ? {} : { limit }),
  });
}

function retryingAt({ status, title }: ProblemKind, retryAfterMs: number | null): ProblemKind {
  return retryAfterMs === null
    ? { status, title }
    : { status, title, retryAfterSeconds: Math.ceil(retryAfterMs / 1_000) };
}

function problem(
  code: string,
  detail: string,
  requestId: string,
  { status, title, retryAfterSeconds }: ProblemKind,
  headers: readonly string[],
  members: object,
): Answer {
  const retry = retryAfterSeconds === undefined ? [] : ["Retry-After", String(retryAfterSeconds)];
  const body = {
    type: problemType(code),
    title,
    status,
    detail: printable(withoutKeys(detail)),
    instance: `urn:uuid:${requestId}`,
    code,
    ...members,
  };
  return {
    status,
    type: PROBLEM_TYPE,
    body: JSON.stringify(body),
    headers: [...NOT_STORED, "X-Request-Id", requestId, ...retry, ...headers],
  };
}
