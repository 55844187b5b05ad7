/** What the leasing rooms refuse, as HTTP has it. A code without an entry does not compile. */
import { DomainError, type ErrorCode } from "../core/model/errors.ts";
import { EXCHANGE_PROBLEMS, type HttpErrorCode, type ProblemKind, type Refusals } from "./exchange/problems.ts";

const LEASING_PROBLEMS: Readonly<Record<ErrorCode, ProblemKind>> = {
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
  "key-not-found": { status: 404, title: "No such API key" },
  "keys-in-file": { status: 409, title: "The key, or all keys, stand in the settings" },
  "too-many-keys": { status: 409, title: "The principal has two keys already" },
  "revocation-not-durable": {
    status: 503,
    title: "The key is out of force, and that could not be written to the database",
    retryAfterSeconds: 5,
  },
  "allocation-ended": { status: 409, title: "The allocation has ended" },
  "extension-refused": { status: 409, title: "The lease's end cannot be moved so" },
  "nudge-refused": { status: 409, title: "Nobody holds anything by it" },
  "nudged-lately": { status: 429, title: "Its holder was written to a moment ago" },
  "reservation-refused": { status: 409, title: "The reservation cannot hold" },
  "reservation-not-found": { status: 404, title: "No such reservation" },
  "fencing-token-mismatch": { status: 409, title: "Wrong fencing token" },
  "not-owner": { status: 403, title: "Belongs to another principal" },
  "pid-not-visible": { status: 422, title: "The daemon does not see the process" },
  "storage-unavailable": { status: 503, title: "The change could not be stored", retryAfterSeconds: 5 },
  overloaded: { status: 503, title: "Too many requests wait to be decided", retryAfterSeconds: 1 },
  "usage-busy": { status: 503, title: "Other usage reports are being made", retryAfterSeconds: 2 },
  "period-too-large": { status: 422, title: "The period is too large for one report" },
  "shutting-down": { status: 503, title: "The daemon is shutting down", retryAfterSeconds: 5 },
};

export type ProblemCode = ErrorCode | HttpErrorCode;

/** Every code that a problem document of this API can have. */
export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = { ...LEASING_PROBLEMS, ...EXCHANGE_PROBLEMS };

export const LEASING_REFUSALS: Refusals = {
  refusalIn: (error) => (error instanceof DomainError ? error : null),
  kinds: LEASING_PROBLEMS,
};
