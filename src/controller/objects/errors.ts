/** What the controller refuses, by code. */
export type ControllerErrorCode =
  | "object-invalid"
  | "malformed-yaml"
  | "workload-not-found"
  | "model-not-found"
  | "model-refused"
  | "node-not-found"
  | "object-exists"
  | "conflict"
  | "wrong-state"
  | "not-restartable"
  | "several-deployments"
  | "never-fits"
  | "no-gpu-free"
  | "tenant-foreign"
  | "tenants-unavailable"
  | "tenant-maximum"
  | "not-yet"
  | "not-built"
  | "backend-unavailable"
  | "backend-refused"
  | "storage-unavailable"
  | "shutting-down";

export class ControllerError extends Error {
  readonly code: ControllerErrorCode;
  readonly errors: readonly { readonly path: string; readonly message: string }[] | null;

  constructor(
    code: ControllerErrorCode,
    message: string,
    errors: readonly { readonly path: string; readonly message: string }[] | null = null,
  ) {
    super(message);
    this.code = code;
    this.errors = errors;
  }
}
