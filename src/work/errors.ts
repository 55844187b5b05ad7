/** What the work rooms refuse. Like the core's refusals they carry facts and know nothing of HTTP. */

export const WORK_ERROR_CODES = [
  "work-disabled",
  "work-full",
  "malformed-yaml",
  "document-incomplete",
  "document-invalid",
  "not-allowed",
  "workload-not-found",
  "workload-exists",
  "task-not-found",
  "task-ended",
  "run-not-found",
  "run-ended",
  "run-not-adoptable",
  "worker-not-found",
  "result-not-found",
  "worker-superseded",
  "not-owner",
  "work-storage-unavailable",
  "node-unreachable",
] as const;
export type WorkErrorCode = (typeof WORK_ERROR_CODES)[number];

export interface DocumentProblem {
  /** Such as `spec.resources.hardware.gpu.count`; empty for the whole document. */
  readonly path: string;
  readonly message: string;
}

/** A refusal: nothing has changed. */
export class WorkError extends Error {
  readonly code: WorkErrorCode;
  readonly errors: readonly DocumentProblem[] | null;

  constructor(code: WorkErrorCode, message: string, errors: readonly DocumentProblem[] | null = null) {
    super(message);
    this.code = code;
    this.errors = errors;
  }
}
