/** The API's routes: what each asks of its caller, and what it answers. */
import type { AllocateAsk } from "../core/commands.ts";
import { AllocationEndedError, DomainError, StorageUnavailableError } from "../core/errors.ts";
import type { Actor, AllocationId, GpuUuid, QueuedAllocation } from "../core/model.ts";
import { planOf } from "../core/plan.ts";
import { grantedBody } from "../scheduler/records.ts";
import type { Reply, Scheduler } from "../scheduler/scheduler.ts";
import { type Answer, json, NOT_STORED } from "./answers.ts";
import { allocateAsk, kindAsked, workloadAsk } from "./asks.ts";
import { docsEndpoints } from "./docs.ts";
import { type Call, type Endpoint, endpoint, type Operation } from "./endpoint.ts";
import { events } from "./event-stream.ts";
import type { GrantAnswers } from "./grant-answers.ts";
import type { Idempotency } from "./idempotency.ts";
import { preferredWaitMs } from "./prefer.ts";
import { HttpError, invalid } from "./problems.ts";
import { quotas } from "./quotas.ts";
import {
  type AllocateBody,
  adoptionSchema,
  allocateSchema,
  checker,
  DEFAULT_PAGE,
  type DrainBody,
  deleteQuerySchema,
  deliveriesQuerySchema,
  drainSchema,
  lifetimeMs,
  queryOf,
  reasonSchema,
  recordQuerySchema,
  recordsQuerySchema,
  releaseSchema,
  renewSchema,
  waitMs,
  workloadSchema,
} from "./schemas.ts";
import { usage } from "./usage.ts";
import {
  deliveryView,
  gpuViewOf,
  hostDrainView,
  listView,
  planView,
  queuedView,
  recordView,
  seesAll,
  statusView,
  workloadView,
} from "./views.ts";
import { windows } from "./windows.ts";

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
  readonly grants: GrantAnswers;
  readonly idempotency: Idempotency;
}

/** The busiest first: express tries them in this order. */
export function endpointsOf(parts: EndpointParts): readonly Endpoint[] {
  return [
    endpoint("/gpu/allocate", "key", { POST: allocation(parts) }),
    endpoint("/gpu/release", "key", { POST: release(parts) }),
    endpoint("/gpu/allocations/:id/renew", "key", { POST: renewal(parts) }),
    endpoint("/gpu/allocations/:id", "key", { GET: record(parts), DELETE: removal(parts) }),
    endpoint("/gpu/status", "key", { GET: status(parts) }),
    endpoint("/gpu/list", "key", { GET: list(parts) }),
    endpoint("/gpu/workload", "key", { POST: workload(parts) }),
    endpoint("/gpu/plan", "key", { POST: plan(parts) }),
    endpoint("/gpu/allocations", "key", { GET: records(parts) }),
    endpoint("/gpu/events", "key", { GET: events(parts) }),
    endpoint("/gpu/allocations/:id/revoke", "key", { POST: revocation(parts) }),
    endpoint("/gpu/gpus/:id", "key", { DELETE: gpuRemoval(parts) }),
    endpoint("/gpu/gpus/:id/cordon", "key", { POST: governance(parts, "cordon") }),
    endpoint("/gpu/gpus/:id/uncordon", "key", { POST: governance(parts, "uncordon") }),
    endpoint("/gpu/gpus/:id/adopt", "key", { POST: adoption(parts) }),
    endpoint("/gpu/gpus/:id/drain", "key", { POST: gpuDrain(parts) }),
    endpoint("/gpu/drain", "key", { POST: hostDrain(parts) }),
    endpoint("/gpu/undrain", "key", { POST: hostUndrain(parts) }),
    endpoint("/gpu/gpus/:id/clear-quarantine", "key", { POST: governance(parts, "clear-quarantine") }),
    endpoint("/gpu/webhooks/deliveries", "key", { GET: deliveries(parts) }),
    endpoint("/gpu/webhooks/deliveries/:id/redeliver", "key", { POST: redelivery(parts) }),
    endpoint("/gpu/windows", "key", { GET: windows(parts.scheduler) }),
    endpoint("/gpu/usage", "key", { GET: usage(parts.scheduler) }),
    endpoint("/gpu/quotas", "key", { GET: quotas(parts.scheduler) }),
    endpoint("/healthz", "probe", { GET: alive }),
    endpoint("/livez", "probe", { GET: alive }),
    endpoint("/readyz", "probe", { GET: ready(parts) }),
    ...(parts.metrics === null ? [] : [endpoint("/metrics", "open", { GET: metrics(parts.metrics) })]),
    endpoint("/openapi.json", "open", { GET: openapi(parts) }),
    ...docsEndpoints(),
  ];
}

function allocation({ scheduler, checkWebhookUrl, grants, idempotency }: EndpointParts): Operation {
  const check = checker(allocateSchema);
  const wait = (id: AllocationId, { actor, prefer, hold }: Call) => {
    const patienceMs = preferredWaitMs(prefer);
    return patienceMs === 0 ? null : hold((signal) => scheduler.wait(id, actor, patienceMs, signal));
  };
  return {
    role: "allocate",
    body: "needed",
    async answer(call) {
      const { actor } = call;
      const ask = checkedAsk(check(call.body), checkWebhookUrl);
      return idempotency.answer("allocate", call, {
        async first(key) {
          const first = await scheduler.allocate(ask, actor, key);
          const { id } = first.allocation.request;
          // Clients of the reference service take 200, and nothing else, for a grant.
          if (first.allocation.status !== "queued") return grants.ofNew(id, json(200, grantedBody(first.allocation)));
          const held = wait(id, call);
          if (held === null) return queuedAnswer(first.allocation, first, []);
          const last = held.catch((error: unknown) => {
            // It is queued, whatever became of the wait, and its client must learn its id.
            if (error instanceof DomainError) return first;
            throw error;
          });
          return grants.ofKnown(id, actor.principal, () => last, standing(WAIT_APPLIED));
        },
        again([id = ""]) {
          let applied: readonly string[] = [];
          const ask = () => {
            const held = wait(id, call);
            if (held !== null) applied = WAIT_APPLIED;
            return held ?? scheduler.read(id, actor);
          };
          return grants.ofKnown(id, actor.principal, ask, (reply) => standing(applied)(reply));
        },
      });
    },
  };
}

/** How a request stands that was made before this answer. */
function standing(headers: readonly string[]): (reply: Reply) => Answer {
  return (reply) => {
    const { allocation } = reply;
    if (allocation.status === "ended") throw new AllocationEndedError(allocation.request.id);
    if (allocation.status === "queued") return queuedAnswer(allocation, reply, headers);
    return json(200, grantedBody(allocation), headers);
  };
}

/** RFC 7240, section 3. */
const WAIT_APPLIED = ["Preference-Applied", "wait"];

function queuedAnswer(allocation: QueuedAllocation, { state, at }: Reply, headers: readonly string[]): Answer {
  return json(202, queuedView(allocation, state, at), [
    "Location",
    `/gpu/allocations/${allocation.request.id}`,
    "Retry-After",
    String(pollSeconds(state.policy.abandonAfterMs)),
    ...headers,
  ]);
}

const LONGEST_POLL_SECONDS = 10;

/** Asking this often, a client is not taken for gone even if one of its calls fails. */
function pollSeconds(abandonAfterMs: number): number {
  return Math.max(1, Math.min(LONGEST_POLL_SECONDS, Math.floor(abandonAfterMs / 3_000)));
}

function release({ scheduler, idempotency }: EndpointParts): Operation {
  const check = checker(releaseSchema);
  const answer = (released: readonly AllocationId[]) => json(200, { status: "released", released });
  return {
    role: "allocate",
    body: "needed",
    answer(call) {
      const given = check(call.body);
      const target = {
        id: given.allocation_id ?? null,
        serviceName: given.service_name ?? null,
        fencingToken: given.fencing_token ?? null,
      };
      return idempotency.answer("release", call, {
        first: async (key) =>
          answer((await scheduler.release(target, call.actor, key)).map(({ request }) => request.id)),
        // A service may have leased anew since then: that is not what was released.
        again: answer,
      });
    },
  };
}

function renewal({ scheduler, grants, idempotency }: EndpointParts): Operation {
  const check = checker(renewSchema);
  return {
    role: "allocate",
    body: "optional",
    answer(call) {
      const { id, actor } = call;
      const { fencing_token: token } = check(call.body ?? {});
      const record = recordAnswer(actor);
      return idempotency.answer("renew", call, {
        first: (key) =>
          grants.ofKnown(id, actor.principal, () => scheduler.renew(id, token ?? null, actor, key), record),
        again: () => grants.ofKnown(id, actor.principal, () => scheduler.read(id, actor), unlessEnded(record)),
      });
    },
  };
}

function unlessEnded(answer: (reply: Reply) => Answer): (reply: Reply) => Answer {
  return (reply) => {
    if (reply.allocation.status === "ended") throw new AllocationEndedError(reply.allocation.request.id);
    return answer(reply);
  };
}

function revocation({ scheduler }: EndpointParts): Operation {
  const check = checker(reasonSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ id, body, actor }) {
      const ended = await scheduler.revoke(id, check(body).reason, actor);
      return json(200, recordView(ended, scheduler.state, scheduler.now(), actor));
    },
  };
}

function governance({ scheduler }: EndpointParts, what: "cordon" | "uncordon" | "clear-quarantine"): Operation {
  const check = checker(reasonSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ id, body, actor }) {
      const uuid = await scheduler.govern(what, id, check(body).reason, actor);
      return json(200, gpuViewOf(uuid, scheduler.state, scheduler.now()));
    },
  };
}

function adoption({ scheduler }: EndpointParts): Operation {
  const check = checker(adoptionSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ id, body, actor }) {
      const given = check(body);
      const ask = {
        serviceName: given.service_name,
        principal: given.principal ?? null,
        reason: given.reason,
        pid: given.pid ?? null,
        ttlMs: lifetimeOf(given.ttl),
        maxDurationMs: lifetimeOf(given.max_duration),
      };
      const { allocation, state, at } = await scheduler.adopt(id, ask, actor);
      return json(200, recordView(allocation, state, at, actor));
    },
  };
}

/** `null`: not given. */
function lifetimeOf(given: string | number | null | undefined): number | null {
  return given === undefined || given === null ? null : lifetimeMs(given);
}

/** How long the leases may stay; `null`: as long as they last. */
function leaveMs({ deadline }: DrainBody): number | null {
  return lifetimeOf(deadline);
}

function gpuDrain({ scheduler }: EndpointParts): Operation {
  const check = checker(drainSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ id, body, actor }) {
      const given = check(body);
      const uuid = (await scheduler.drain(id, leaveMs(given), given.reason, actor)) as GpuUuid;
      return json(200, gpuViewOf(uuid, scheduler.state, scheduler.now()));
    },
  };
}

function hostDrain({ scheduler }: EndpointParts): Operation {
  const check = checker(drainSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ body, actor }) {
      const given = check(body);
      await scheduler.drain(null, leaveMs(given), given.reason, actor);
      return json(200, hostDrainView(scheduler.state));
    },
  };
}

function hostUndrain({ scheduler }: EndpointParts): Operation {
  const check = checker(reasonSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ body, actor }) {
      await scheduler.undrain(check(body).reason, actor);
      return json(200, hostDrainView(scheduler.state));
    },
  };
}

function gpuRemoval({ scheduler }: EndpointParts): Operation {
  const check = checker(reasonSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ id, body, actor }) {
      const uuid = await scheduler.govern("remove-gpu", id, check(body).reason, actor);
      return json(200, { status: "removed", uuid });
    },
  };
}

function record({ scheduler, grants }: EndpointParts): Operation {
  const check = checker(recordQuerySchema);
  return {
    role: "read",
    body: "ignored",
    answer({ id, url, actor, hold }) {
      const { wait } = check(queryOf(url));
      const patienceMs = wait === undefined ? null : waitMs(wait);
      const ask = () =>
        (patienceMs === null ? null : hold((signal) => scheduler.wait(id, actor, patienceMs, signal))) ??
        scheduler.read(id, actor);
      const read = () =>
        ask().catch((error: unknown) => {
          // That its client has seen it cannot be stored; the record can be read all the same.
          if (error instanceof StorageUnavailableError) return scheduler.peek(id);
          throw error;
        });
      return grants.ofKnown(id, actor.principal, read, recordAnswer(actor));
    },
  };
}

/** What was written out of a reply, for those who may see all of its record and for others. */
const written = new WeakMap<Reply, { all?: Answer; open?: Answer }>();

/** A thousand who waited for one record have the same reply: it is written out once. */
function recordAnswer(actor: Actor): (reply: Reply) => Answer {
  return (reply) => {
    const { allocation, state, at } = reply;
    const answers = written.get(reply) ?? {};
    written.set(reply, answers);
    const part = seesAll(actor, allocation) ? "all" : "open";
    answers[part] ??= json(200, recordView(allocation, state, at, actor));
    return answers[part];
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

/** Addresses may hold their receivers' secrets: for admins only. */
function deliveries({ scheduler }: EndpointParts): Operation {
  const check = checker(deliveriesQuerySchema);
  return {
    role: "admin",
    body: "ignored",
    answer({ url }) {
      const { state, allocation_id: allocationId, before, limit } = check(queryOf(url));
      const size = limit === undefined ? DEFAULT_PAGE : Number(limit);
      const found = scheduler.listDeliveries({
        state: state ?? null,
        allocationId: allocationId ?? null,
        before: before ?? null,
        limit: size + 1,
      });
      const page = found.slice(0, size);
      const next = found.length > size ? (page.at(-1)?.deliveryId ?? null) : null;
      return json(200, { deliveries: page.map(deliveryView), next });
    },
  };
}

function redelivery({ scheduler }: EndpointParts): Operation {
  return {
    role: "admin",
    body: "optional",
    answer: async ({ id }) => json(200, deliveryView(await scheduler.redeliver(id))),
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
    answer: ({ actor }) => json(200, listView(scheduler.state, scheduler.now(), actor)),
  };
}

function workload({ scheduler }: EndpointParts): Operation {
  const check = checker(workloadSchema);
  return {
    role: "read",
    body: "needed",
    answer({ body, actor }) {
      const asked = check(body);
      const asker = { principal: actor.principal, serviceName: asked.service_name ?? null };
      return json(200, workloadView(workloadAsk(asked), kindAsked(asked), asker, scheduler.state));
    },
  };
}

/** A dry run: the same checks, the same decision, and nothing of it kept. */
function plan({ scheduler, checkWebhookUrl }: EndpointParts): Operation {
  const check = checker(allocateSchema);
  return {
    role: "read",
    body: "needed",
    answer({ body, actor }) {
      const ask = checkedAsk(check(body), checkWebhookUrl);
      const { state } = scheduler;
      const now = scheduler.now();
      return json(200, planView(ask, actor, planOf(state, ask, actor, now), state));
    },
  };
}

/** @throws HttpError 422 when its webhook may not be sent. */
function checkedAsk(body: AllocateBody, checkWebhookUrl: EndpointParts["checkWebhookUrl"]): AllocateAsk {
  const ask = allocateAsk(body);
  const objection = ask.webhookUrl === null ? null : checkWebhookUrl(ask.webhookUrl);
  if (objection !== null) throw invalid([{ path: "webhook_url", message: objection }]);
  return ask;
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
