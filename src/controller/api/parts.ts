/** What the routes have in common: whose call it is, and what it may see. */
import type { Answer } from "../../http/exchange/answers.ts";
import type { Role } from "../../http/exchange/auth.ts";
import { queryOf } from "../../http/exchange/checks.ts";
import type { Call } from "../../http/exchange/endpoint.ts";
import type { Idempotency } from "../../http/exchange/idempotency.ts";
import { invalid, type ProblemKind, type Refusals } from "../../http/exchange/problems.ts";
import { ControllerError, type ControllerErrorCode } from "../objects/errors.ts";
import { tenantOf } from "../objects/meta.ts";
import type { History, Objects } from "../objects/store.ts";
import type { Workload } from "../objects/workload.ts";
import type { Backend } from "../reconcile/backend.ts";
import type { ReconcileLoop } from "../reconcile/loop.ts";
import type { ControllerSettings } from "../settings/settings.ts";
import type { AuditEntry } from "../store/history.ts";
import type { TenantService } from "./tenant-service.ts";

export interface ApiParts {
  readonly objects: Objects;
  readonly history: History;
  readonly backend: Backend;
  readonly loop: ReconcileLoop;
  readonly settings: ControllerSettings;
  readonly newId: () => string;
  readonly version: string;
  readonly now: () => number;
  readonly idempotency: Idempotency;
  readonly database: DatabaseHealth;
  /** Writes down who did what; absent: nobody does. */
  readonly audit?: (entry: AuditEntry) => void;
  /** Absent: whoever names a tenant is believed. */
  readonly tenants?: Pick<TenantService, "demand"> | null;
}

export interface DatabaseHealth {
  /** Why it cannot be reached; `null`: it can. */
  readonly trouble: string | null;
  /** On one host: why it is not known yet what is wanted; `null`: it is. */
  readonly unread: string | null;
  /** Rows of history. */
  readonly figures: { readonly buffered: number; readonly written: number; readonly dropped: number };
}

const PROBLEMS: Readonly<Record<ControllerErrorCode, ProblemKind>> = {
  "object-invalid": { status: 422, title: "The object is not valid" },
  "malformed-yaml": { status: 400, title: "The document is not YAML" },
  "workload-not-found": { status: 404, title: "No such workload" },
  "model-not-found": { status: 404, title: "No such model" },
  "model-refused": { status: 422, title: "The model cannot be used" },
  "node-not-found": { status: 404, title: "No such node" },
  "object-exists": { status: 409, title: "There is an object of this name" },
  conflict: { status: 409, title: "The object is in the way of this" },
  "wrong-state": { status: 409, title: "The deployment is in another state" },
  // The second seed's clients know this one.
  "not-restartable": { status: 400, title: "The deployment cannot be restarted now" },
  "several-deployments": { status: 409, title: "The model has several deployments" },
  "never-fits": { status: 422, title: "No node could ever hold a replica" },
  "no-gpu-free": { status: 503, title: "No GPU is free now", retryAfterSeconds: 5 },
  "tenant-foreign": { status: 403, title: "The key is not for this tenant" },
  "tenants-unavailable": { status: 503, title: "The tenant service cannot be asked", retryAfterSeconds: 5 },
  "tenant-maximum": { status: 403, title: "The tenant may not have so many GPUs" },
  "not-yet": { status: 422, title: "This version does not do that yet" },
  "not-built": { status: 501, title: "This version does not have that yet" },
  "backend-unavailable": { status: 503, title: "The backend cannot be reached", retryAfterSeconds: 5 },
  "backend-refused": { status: 502, title: "The backend refused what the controller asked of it" },
  "storage-unavailable": { status: 503, title: "The change could not be stored", retryAfterSeconds: 5 },
  "shutting-down": { status: 503, title: "The controller is shutting down", retryAfterSeconds: 5 },
};

export const CONTROLLER_REFUSALS: Refusals = {
  refusalIn: (error) => (error instanceof ControllerError ? error : null),
  kinds: PROBLEMS,
};

/** The second seed's clients look for `error` and `status_code`. */
export function withSeedNames(problem: Answer): Answer {
  const body = JSON.parse(String(problem.body)) as { detail: string; status: number };
  return { ...problem, body: JSON.stringify({ ...body, error: body.detail, status_code: body.status }) };
}

/** Who may change objects. Where processes of this host are started, it takes the role that may. */
export function changing({ backend }: ApiParts): Role {
  return backend.kind === "host" ? "run" : "allocate";
}

/** The tenants that a call may see; `null`: all. */
export function tenantsOf({ settings }: ApiParts, { actor, tenant }: Call): readonly string[] | null {
  const bound = settings.auth.tenants.get(actor.principal) ?? null;
  if (tenant === undefined || tenant === "") return bound;
  if (bound !== null && !bound.includes(tenant)) throw foreign(tenant);
  return [tenant];
}

/** @throws ControllerError `tenant-foreign` */
export function demandTenant(parts: ApiParts, call: Call, tenant: string): void {
  const allowed = tenantsOf(parts, call);
  if (allowed !== null && !allowed.includes(tenant)) throw foreign(tenant);
}

/**
 * Of what belongs to no tenant, and acts on all.
 *
 * @throws ControllerError `tenant-foreign`
 */
export function demandAllTenants(parts: ApiParts, call: Call): void {
  if (tenantsOf(parts, call) === null) return;
  throw new ControllerError("tenant-foreign", "it is for all tenants, and this call is for some");
}

function foreign(tenant: string): ControllerError {
  return new ControllerError("tenant-foreign", `this key is not for the tenant ${tenant}`);
}

/** The tenant that a call that names none is for; `null`: nothing tells. */
export function onlyTenant(parts: ApiParts, call: Call): string | null {
  const allowed = tenantsOf(parts, call);
  return allowed?.length === 1 ? (allowed[0] as string) : null;
}

export function visible(parts: ApiParts, call: Call): readonly Workload[] {
  const allowed = tenantsOf(parts, call);
  return parts.objects.workloads().filter(({ metadata }) => allowed === null || allowed.includes(tenantOf(metadata)));
}

/** @throws ControllerError `workload-not-found`, `tenant-foreign` */
export function deploymentNamed(parts: ApiParts, call: Call, id: string): Workload {
  const found = parts.objects.workloads().find(({ metadata }) => metadata.name === id);
  if (found === undefined) throw new ControllerError("workload-not-found", `there is no deployment ${id}`);
  demandTenant(parts, call, tenantOf(found.metadata));
  return found;
}

/** The parameters after `?`, of which others than `known` are a mistake. */
export function parametersOf<const Name extends string>(
  { url }: Call,
  known: readonly Name[],
): Readonly<Partial<Record<Name, string>>> {
  const given = queryOf(url);
  const other = Object.keys(given).find((name) => !known.includes(name as Name));
  if (other !== undefined) throw invalid([{ path: other, message: "no such parameter" }]);
  return given as Partial<Record<Name, string>>;
}

export function numberIn(name: string, given: string | undefined, byDefault: number, most: number): number {
  if (given === undefined) return byDefault;
  const value = Number(given);
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw invalid([{ path: name, message: `expected a whole number from 0 to ${most}` }]);
}
