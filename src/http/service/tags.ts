/** How the API's page groups its calls. */
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";

/** In the page's order. */
export const TAGS = [
  { name: "Leases", description: "Ask for GPUs, keep them, give them back" },
  { name: "Host", description: "What there is, who has it, what happens" },
  { name: "Planning", description: "What would be given, and what may be had" },
  { name: "Administration", description: "For keys with the role admin" },
  { name: "Service", description: "For machines; open" },
] as const;
export const WORK_TAG = { name: "Work", description: "Run tasks and services on leased GPUs" } as const;
type Tag = (typeof TAGS)[number]["name"] | typeof WORK_TAG.name;

/** The first that a path begins with; what begins with none is of the service itself. */
const BY_PATH: readonly (readonly [begin: string, tag: Tag])[] = [
  ["/gpu/webhooks/test", "Leases"],
  ["/gpu/webhooks/", "Administration"],
  ["/gpu/gpus/", "Administration"],
  ["/gpu/drain", "Administration"],
  ["/gpu/undrain", "Administration"],
  ["/gpu/learned", "Administration"],
  ["/gpu/audit", "Administration"],
  ["/gpu/keys", "Administration"],
  ["/gpu/workload", "Planning"],
  ["/gpu/plan", "Planning"],
  ["/gpu/quotas", "Planning"],
  ["/gpu/windows", "Planning"],
  ["/gpu/reservations", "Planning"],
  ["/gpu/status", "Host"],
  ["/gpu/list", "Host"],
  ["/gpu/events", "Host"],
  ["/gpu/usage", "Host"],
  ["/gpu/readings", "Host"],
  ["/gpu/history", "Host"],
  ["/gpu/me", "Planning"],
  ["/gpu/", "Leases"],
  ["/api/v1/", "Work"],
  ["/work", "Work"],
  ["/schedule", "Work"],
  ["/runs", "Work"],
  ["/admin/cleanup", "Work"],
  ["/status", "Work"],
];

/** The same operations, each with its tag. */
export function tagged(paths: ZodOpenApiPathsObject): ZodOpenApiPathsObject {
  const named = Object.entries(paths).map(([path, item]) => {
    const operations = Object.entries(item as { readonly [method: string]: ZodOpenApiOperationObject });
    return [path, Object.fromEntries(operations.map(([method, one]) => [method, { ...one, tags: [tagOf(path)] }]))];
  });
  return Object.fromEntries(named);
}

function tagOf(path: string): Tag {
  if (path.endsWith("/revoke")) return "Administration";
  if (path.startsWith("/gpu/gpus/") && path.endsWith("/why")) return "Host";
  return BY_PATH.find(([begin]) => path.startsWith(begin))?.[1] ?? "Service";
}
