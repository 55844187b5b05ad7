/**
 * Pages of other origins that `server.allowed_origins` lets in. A browser gives such a page an answer only if that names
 * its origin, and asks first, by OPTIONS, whether it may send a key (the CORS protocol of the Fetch standard).
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Endpoint } from "./endpoint.ts";

const FIELDS = ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer"];
const SHOWN = "GPU-Orchestrator-Version, Link, Location, Preference-Applied, Retry-After, X-Request-Id";

export function nameOrigin(
  req: IncomingMessage,
  res: ServerResponse,
  { allow }: Pick<Endpoint, "allow">,
  {
    allowedOrigins,
    auth,
  }: { readonly allowedOrigins: readonly string[]; readonly auth: { readonly headerName: string } },
): void {
  const { origin } = req.headers;
  if (origin === undefined || !allowedOrigins.includes(origin)) return;
  res.setHeader("Access-Control-Allow-Origin", origin);
  res.setHeader("Access-Control-Expose-Headers", SHOWN);
  res.setHeader("Vary", "Origin");
  if (req.method !== "OPTIONS") return;
  res.setHeader("Access-Control-Allow-Methods", allow);
  res.setHeader("Access-Control-Allow-Headers", [...FIELDS, auth.headerName].join(", "));
}
