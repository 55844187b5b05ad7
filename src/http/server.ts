/** The leasing API's server: its endpoints, and those that running work adds. */
import { ShuttingDownError } from "../ports/refusals.ts";
import { GrantAnswers } from "./allocations/grant-answers.ts";
import { endpointsOf } from "./endpoints.ts";
import type { Endpoint } from "./exchange/endpoint.ts";
import { Idempotency } from "./exchange/idempotency.ts";
import type { News } from "./exchange/news.ts";
import type { Refusals } from "./exchange/problems.ts";
import { createServer, type HttpServer, type RequestMetrics, type ServerParts } from "./exchange/server.ts";
import type { EndpointParts, MetricsPage } from "./parts.ts";
import { ReadingFeed } from "./readings/feed.ts";
import { LEASING_REFUSALS } from "./refusals.ts";

export type { ApiKey } from "./exchange/auth.ts";
export type { Certificate, HttpServer, HttpSettings } from "./exchange/server.ts";

export interface HttpMetrics extends MetricsPage, RequestMetrics {}

export interface HttpServerParts
  extends Omit<
      EndpointParts,
      "metrics" | "headerName" | "grants" | "idempotency" | "readings" | "workNews" | "workCalls" | "workProblems"
    >,
    Pick<ServerParts, "settings" | "keys" | "peers" | "onKeyUsed" | "limits" | "log"> {
  readonly metrics: HttpMetrics | null;
  /** Calls that another room makes, tried before those of this one. */
  readonly work?: {
    readonly endpoints: readonly Endpoint[];
    readonly refusals: Refusals;
    readonly news: News | null;
    readonly described: NonNullable<EndpointParts["workCalls"]>;
  };
}

export function createHttpServer(parts: HttpServerParts): HttpServer {
  return createServer({
    ...parts,
    refusals: together(LEASING_REFUSALS, parts.work?.refusals ?? null),
    audit: {
      keep: (entries) => parts.audit.keepAudit(entries),
      now: () => parts.scheduler.now(),
      others: parts.work?.endpoints ?? [],
    },
    shuttingDown: () => new ShuttingDownError(),
    endpoints(isDraining) {
      const readiness = () => (isDraining() ? "the daemon is shutting down" : parts.readiness());
      const grants = new GrantAnswers(parts.scheduler, (error, allocationId) =>
        parts.log.error(
          { err: error, allocation_id: allocationId },
          "a lease stays although its client was not told of it",
        ),
      );
      const idempotency = new Idempotency(parts.scheduler);
      const readings = new ReadingFeed(parts.scheduler);
      const workNews = parts.work?.news ?? null;
      const { auth } = parts.settings;
      const headerName = auth.enabled ? auth.headerName : null;
      const ofWork = {
        workNews,
        workCalls: parts.work?.described ?? null,
        workProblems: parts.work?.refusals.kinds ?? {},
      };
      const own = endpointsOf({ ...parts, readiness, headerName, grants, idempotency, readings, ...ofWork });
      return [...(parts.work?.endpoints ?? []), ...own];
    },
  });
}

function together(own: Refusals, further: Refusals | null): Refusals {
  if (further === null) return own;
  const refusalIn = (error: unknown) => own.refusalIn(error) ?? further.refusalIn(error);
  return { refusalIn, kinds: { ...further.kinds, ...own.kinds } };
}
