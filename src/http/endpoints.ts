/** The API's routes: what each asks of its caller, and what it answers. */
import type { Actor } from "../core/model.ts";
import { grantedBody } from "../scheduler/records.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import { type Answer, json, NOT_STORED } from "./answers.ts";
import { allocateAsk, gpuModelOf, workloadAsk } from "./asks.ts";
import type { Role } from "./auth.ts";
import { docsEndpoints } from "./docs.ts";
import { HttpError, invalid } from "./problems.ts";
import {
  allocateSchema,
  checker,
  DEFAULT_PAGE,
  deleteQuerySchema,
  queryOf,
  recordsQuerySchema,
  releaseSchema,
  renewSchema,
  workloadSchema,
} from "./schemas.ts";
import { listView, queuedView, recordView, statusView, workloadView } from "./views.ts";

/** One request, admitted. */
export interface Call {
  readonly actor: Actor;
  /** The path's parameter; empty for a path that has none. */
  readonly id: string;
  readonly url: string;
  /** `undefined` when there is none. */
  readonly body: unknown;
  readonly accept: string | undefined;
}

export interface Operation {
  readonly role: Role;
  /** What becomes of a body: `ignored` ones are not even read. */
  readonly body: "needed" | "optional" | "ignored";
  readonly answer: (call: Call) => Answer | Promise<Answer>;
}

export type Method = "GET" | "POST" | "DELETE";

export interface Endpoint {
  /** As express has it; also the metrics' label. */
  readonly path: string;
  /** `key`: asks for one when authentication is on. `open`: none. `probe`: none, under any `Host`. */
  readonly access: "key" | "open" | "probe";
  readonly methods: { readonly [method in Method]?: Operation };
}

export interface MetricsPage {
  render(accept: string | undefined): Promise<{ readonly contentType: string; readonly body: string }>;
}

export interface EndpointParts {
  readonly scheduler: Scheduler;
  /** Why webhooks may not be sent there; `null` when they may. */
  readonly checkWebhookUrl: (url: string) => string | null;
  /** `null`: there is no such page. */
  readonly metrics: MetricsPage | null;
  /** Why the daemon cannot serve now; `null` when it can. */
  readonly readiness: () => string | null;
  readonly version: string;
  readonly headerName: string;
}

/** The busiest first: express tries them in this order. */
export function endpointsOf(parts: EndpointParts): readonly Endpoint[] {
  return [
    { path: "/gpu/allocate", access: "key", methods: { POST: allocation(parts) } },
    { path: "/gpu/release", access: "key", methods: { POST: release(parts) } },
    { path: "/gpu/allocations/:id/renew", access: "key", methods: { POST: renewal(parts) } },
    { path: "/gpu/allocations/:id", access: "key", methods: { GET: record(parts), DELETE: removal(parts) } },
    { path: "/gpu/status", access: "key", methods: { GET: status(parts) } },
    { path: "/gpu/list", access: "key", methods: { GET: list(parts) } },
    { path: "/gpu/workload", access: "key", methods: { POST: workload(parts) } },
    { path: "/gpu/allocations", access: "key", methods: { GET: records(parts) } },
    { path: "/healthz", access: "probe", methods: { GET: alive } },
    { path: "/livez", access: "probe", methods: { GET: alive } },
    { path: "/readyz", access: "probe", methods: { GET: ready(parts) } },
    ...(parts.metrics === null
      ? []
      : [{ path: "/metrics", access: "open" as const, methods: { GET: metrics(parts.metrics) } }]),
    { path: "/openapi.json", access: "open", methods: { GET: openapi(parts) } },
    ...docsEndpoints(),
  ];
}

function allocation({ scheduler, checkWebhookUrl }: EndpointParts): Operation {
  const check = checker(allocateSchema);
  return {
    role: "allocate",
    body: "needed",
    async answer({ body, actor }) {
      const ask = allocateAsk(check(body));
      const objection = ask.webhookUrl === null ? null : checkWebhookUrl(ask.webhookUrl);
      if (objection !== null) throw invalid([{ path: "webhook_url", message: objection }]);
      const { allocation, state, at } = await scheduler.allocate(ask, actor);
      // Clients of the reference service take 200, and nothing else, for a grant.
      if (allocation.status !== "queued") return json(200, grantedBody(allocation));
      return json(202, queuedView(allocation, state, at), [
        "Location",
        `/gpu/allocations/${allocation.request.id}`,
        "Retry-After",
        String(pollSeconds(state.policy.abandonAfterMs)),
      ]);
    },
  };
}

const LONGEST_POLL_SECONDS = 10;

/** Asking this often, a client is not taken for gone even if one of its calls fails. */
function pollSeconds(abandonAfterMs: number): number {
  return Math.max(1, Math.min(LONGEST_POLL_SECONDS, Math.floor(abandonAfterMs / 3_000)));
}

function release({ scheduler }: EndpointParts): Operation {
  const check = checker(releaseSchema);
  return {
    role: "allocate",
    body: "needed",
    async answer({ body, actor }) {
      const given = check(body);
      const ended = await scheduler.release(
        {
          id: given.allocation_id ?? null,
          serviceName: given.service_name ?? null,
          fencingToken: given.fencing_token ?? null,
        },
        actor,
      );
      return json(200, { status: "released", released: ended.map(({ request }) => request.id) });
    },
  };
}

function renewal({ scheduler }: EndpointParts): Operation {
  const check = checker(renewSchema);
  return {
    role: "allocate",
    body: "optional",
    async answer({ id, body, actor }) {
      const { fencing_token: token } = check(body ?? {});
      const { allocation, state, at } = await scheduler.renew(id, token ?? null, actor);
      return json(200, recordView(allocation, state, at, actor));
    },
  };
}

function record({ scheduler }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    async answer({ id, actor }) {
      const { allocation, state, at } = await scheduler.read(id, actor);
      return json(200, recordView(allocation, state, at, actor));
    },
  };
}

function removal({ scheduler }: EndpointParts): Operation {
  const check = checker(deleteQuerySchema);
  return {
    role: "allocate",
    body: "ignored",
    async answer({ id, url, actor }) {
      const { fencing_token: token } = check(queryOf(url));
      const fencingToken = token === undefined ? null : Number(token);
      const [ended] = await scheduler.release({ id, serviceName: null, fencingToken }, actor);
      if (ended === undefined) throw new Error(`the release of ${id} ended nothing`);
      return json(200, recordView(ended, scheduler.state, scheduler.now(), actor));
    },
  };
}

function records({ scheduler }: EndpointParts): Operation {
  const check = checker(recordsQuerySchema);
  return {
    role: "read",
    body: "ignored",
    answer({ url, actor }) {
      const { status, service_name: serviceName, before, limit } = check(queryOf(url));
      const size = limit === undefined ? DEFAULT_PAGE : Number(limit);
      const found = scheduler.list({
        status: status ?? null,
        serviceName: serviceName ?? null,
        principal: null,
        before: before ?? null,
        // One more than asked for tells whether there is a next page.
        limit: size + 1,
      });
      const page = found.slice(0, size);
      const { state } = scheduler;
      const now = scheduler.now();
      return json(200, {
        allocations: page.map((allocation) => recordView(allocation, state, now, actor)),
        next: found.length > size ? (page.at(-1)?.request.id ?? null) : null,
      });
    },
  };
}

function status({ scheduler }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer: () => json(200, statusView(scheduler.state, scheduler.now())),
  };
}

function list({ scheduler }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer: () => json(200, listView(scheduler.state, scheduler.now())),
  };
}

function workload({ scheduler }: EndpointParts): Operation {
  const check = checker(workloadSchema);
  return {
    role: "read",
    body: "needed",
    answer({ body }) {
      const asked = check(body);
      return json(200, workloadView(workloadAsk(asked), gpuModelOf(asked), scheduler.state));
    },
  };
}

/** Alive means: the event loop turns. A sick GPU or a full disk is no reason to restart the daemon. */
const alive: Operation = { role: "read", body: "ignored", answer: () => json(200, { status: "ok" }) };

function ready({ readiness }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer() {
      const reason = readiness();
      if (reason !== null) throw new HttpError("not-ready", reason);
      return json(200, { status: "ok" });
    },
  };
}

function metrics(page: MetricsPage): Operation {
  return {
    role: "read",
    body: "ignored",
    async answer({ accept }) {
      const { contentType, body } = await page.render(accept);
      return { status: 200, type: contentType, body, headers: NOT_STORED };
    },
  };
}

function openapi({ version, headerName }: EndpointParts): Operation {
  let text: string | null = null;
  return {
    role: "read",
    body: "ignored",
    async answer() {
      if (text === null) {
        // Not needed to serve, and slow to load.
        const { openApiDocument } = await import("./openapi.ts");
        text = JSON.stringify(openApiDocument({ version, headerName }));
      }
      return { status: 200, type: "application/json; charset=utf-8", body: text, headers: NOT_STORED };
    },
  };
}
