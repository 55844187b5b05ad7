import { namesModel } from "../../core/analyzer/model-need.ts";
import type { AllocateAsk } from "../../core/decisions/commands.ts";
import { owns } from "../../core/decisions/lifecycle.ts";
import { indexNow } from "../../core/host/indices.ts";
import type { Allocation, QueuedAllocation } from "../../core/model/allocation.ts";
import { AllocationEndedError, DomainError } from "../../core/model/errors.ts";
import type { Actor, AllocationId } from "../../core/model/ids.ts";
import { StorageUnavailableError } from "../../ports/refusals.ts";
import type { AllocationQuery } from "../../ports/store.ts";
import type { Reply } from "../../scheduler/scheduler.ts";
import {
  allocateSchema,
  deleteQuerySchema,
  extendSchema,
  recordQuerySchema,
  recordsQuerySchema,
  releaseSchema,
  renewSchema,
  waitMs,
} from "../../wire/allocations/asks.ts";
import { grantedBody } from "../../wire/allocations/bodies.ts";
import { GrantedTexts } from "../../wire/allocations/granted-text.ts";
import { warningsOf, warningsPart } from "../../wire/allocations/warnings.ts";
import { DEFAULT_PAGE, lifetimeOf, MAX_WAIT_MS, nudgeSchema, reasonSchema } from "../../wire/asking.ts";
import { adoptionSchema } from "../../wire/gpus/asks.ts";
import { type Answer, json, jsonText } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Call, Operation } from "../exchange/endpoint.ts";
import { preferredWaitMs } from "../exchange/prefer.ts";
import { invalid } from "../exchange/problems.ts";
import type { EndpointParts } from "../parts.ts";
import { analysisPart } from "../planning/analysis.ts";
import { boundProcess, checkedAsk, informed } from "./asks.ts";
import { explained } from "./not-now.ts";
import { forOwner, onBehalfOf } from "./on-behalf.ts";
import { queuedView, recordsView, recordView } from "./views.ts";

export function allocation(parts: EndpointParts): Operation {
  const { scheduler, checkWebhookUrl, grants, idempotency, pendingDeliveries, knowledge, processes } = parts;
  const check = checker(allocateSchema);
  const texts = new GrantedTexts();
  const wait = (id: AllocationId, { actor, hold }: Call, patienceMs: number) => {
    return patienceMs === 0 ? null : hold((signal) => scheduler.wait(id, actor, patienceMs, signal));
  };
  return {
    role: "allocate",
    body: "needed",
    answer(given) {
      const body = check(given.body);
      const call = onBehalfOf(given, body.on_behalf_of);
      const { actor } = call;
      const ask = checkedAsk(body, checkWebhookUrl);
      if (ask.webhookUrl !== null) call.client?.mayNotify((atMost) => pendingDeliveries(actor.principal, atMost));
      const patienceMs = preferredWaitMs(call.prefer, MAX_WAIT_MS);
      const warnings = warningsPart(warningsOf(body));
      const known = () => informed(ask, ask.serviceName, knowledge, 0);
      const beside = (asked: AllocateAsk) => (reply: Reply) => ({
        ...analysisPart(asked, reply.allocation, reply.state),
        ...warnings,
      });
      return idempotency.answer("allocate", call, {
        async first(key) {
          // An allocate waits for no advisor.
          const informedAsk = known();
          const withKnown = informedAsk instanceof Promise ? await informedAsk : informedAsk;
          const asked = { ...withKnown, ...boundProcess(body, processes, call) };
          const first = await scheduler.allocate(asked, actor, key).catch((error: unknown) => {
            throw explained(error, asked, actor, scheduler);
          });
          const { id } = first.allocation.request;
          const more = beside(asked);
          // Clients of the reference service take 200, and nothing else, for a grant.
          if (first.allocation.status !== "queued") {
            const granted = texts.of(first.allocation, indexNow(first.state));
            return grants.ofNew(id, jsonText(200, withMembers(granted, more(first))));
          }
          const held = wait(id, call, patienceMs);
          if (held === null) return queuedAnswer(first.allocation, first, [], more);
          const last = held.catch((error: unknown) => {
            // The wait failed, but the request is queued: its client must learn its id.
            if (error instanceof DomainError) return first;
            throw error;
          });
          return grants.ofKnown(id, actor.principal, () => last, standing(WAIT_APPLIED, more));
        },
        async again([id = ""]) {
          let applied: readonly string[] = [];
          const more = beside(namesModel(ask.workloadData) ? await known() : ask);
          const stand = () => {
            const held = wait(id, call, patienceMs);
            if (held !== null) applied = WAIT_APPLIED;
            return held ?? scheduler.read(id, actor);
          };
          return grants.ofKnown(id, actor.principal, stand, (reply) => standing(applied, more)(reply));
        },
      });
    },
  };
}

/** The text of an object with the members of another added. */
function withMembers(text: string, more: object): string {
  const added = JSON.stringify(more);
  return added === "{}" ? text : `${text.slice(0, -1)},${added.slice(1)}`;
}

/** What an answer says beside the record, of a reply. */
type Beside = (reply: Reply) => object;

/** How a request stands that was made before this answer. */
function standing(headers: readonly string[], more: Beside): (reply: Reply) => Answer {
  return (reply) => {
    const { allocation } = reply;
    if (allocation.status === "ended") throw new AllocationEndedError(allocation.request.id);
    if (allocation.status === "queued") return queuedAnswer(allocation, reply, headers, more);
    return json(200, { ...grantedBody(allocation, indexNow(reply.state)), ...more(reply) }, headers);
  };
}

/** RFC 7240, section 3. */
const WAIT_APPLIED = ["Preference-Applied", "wait"];

function queuedAnswer(allocation: QueuedAllocation, reply: Reply, headers: readonly string[], more: Beside): Answer {
  const { state, at } = reply;
  return json(202, { ...queuedView(allocation, state, at), ...more(reply) }, [
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

const NOTHING_RELEASED = "there was nothing of yours under this name: nothing was released";

export function release({ scheduler, idempotency }: EndpointParts): Operation {
  const check = checker(releaseSchema);
  const answer = (released: readonly AllocationId[]) =>
    json(200, { status: "released", released, ...(released.length === 0 ? { warnings: [NOTHING_RELEASED] } : {}) });
  return {
    role: "allocate",
    essential: true,
    body: "needed",
    answer(asked) {
      const given = check(asked.body);
      const call = forOwner(asked, scheduler, given.allocation_id);
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

export function renewal({ scheduler, grants, idempotency }: EndpointParts): Operation {
  const check = checker(renewSchema);
  return {
    role: "allocate",
    essential: true,
    body: "optional",
    answer(asked) {
      const call = forOwner(asked, scheduler);
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

export function extension({ scheduler, grants, idempotency }: EndpointParts): Operation {
  const check = checker(extendSchema);
  return {
    role: "allocate",
    body: "needed",
    answer(asked) {
      const call = forOwner(asked, scheduler);
      const { id, actor } = call;
      const given = check(call.body);
      const to = {
        ttlMs: lifetimeOf(given.ttl),
        maxDurationMs: lifetimeOf(given.max_duration),
        fencingToken: given.fencing_token ?? null,
      };
      const record = recordAnswer(actor);
      return idempotency.answer("extend", call, {
        first: (key) => grants.ofKnown(id, actor.principal, () => scheduler.extend(id, to, actor, key), record),
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

export function revocation({ scheduler }: EndpointParts): Operation {
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

/** Anybody's who may ask for GPUs: it is to those who hold them. */
export function nudging({ scheduler }: EndpointParts): Operation {
  const check = checker(nudgeSchema);
  return {
    role: "allocate",
    body: "needed",
    async answer({ id, body, actor }) {
      const { allocation, state, at } = await scheduler.nudge(id, check(body).message, actor);
      return json(200, recordView(allocation, state, at, actor));
    },
  };
}

export function adoption({ scheduler }: EndpointParts): Operation {
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

export function record({ scheduler, grants }: EndpointParts): Operation {
  const check = checker(recordQuerySchema);
  return {
    role: "read",
    body: "ignored",
    takesQuery: true,
    answer(call) {
      const { id, url, actor, hold } = forOwner(call, scheduler);
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

/** The answers made of a reply: for those who may see all of its record, and for others. */
const written = new WeakMap<Reply, { all?: Answer; open?: Answer }>();

/** All who waited for one record get the same reply: each of its two answers is made once. */
function recordAnswer(actor: Actor): (reply: Reply) => Answer {
  return (reply) => {
    const { allocation, state, at } = reply;
    const answers = written.get(reply) ?? {};
    written.set(reply, answers);
    const part = owns(actor, allocation) ? "all" : "open";
    answers[part] ??= json(200, recordView(allocation, state, at, actor));
    return answers[part];
  };
}

export function removal({ scheduler }: EndpointParts): Operation {
  const checkQuery = checker(deleteQuerySchema);
  const checkBody = checker(renewSchema);
  return {
    role: "allocate",
    essential: true,
    body: "optional",
    takesQuery: true,
    async answer(call) {
      const { id, url, body, actor } = forOwner(call, scheduler);
      const { fencing_token: queried } = checkQuery(queryOf(url));
      const { fencing_token: told } = checkBody(body ?? {});
      const token = told ?? null;
      if (token !== null && queried !== undefined) throw invalid([{ path: "fencing_token", message: "given twice" }]);
      const fencingToken = queried === undefined ? token : Number(queried);
      const [ended] = await scheduler.release({ id, serviceName: null, fencingToken }, actor);
      if (ended === undefined) throw new Error(`the release of ${id} ended nothing`);
      return json(200, recordView(ended, scheduler.state, scheduler.now(), actor));
    },
  };
}

/** Records are read from the file so many at a time: each may carry all that a body may. */
const RECORDS_AT_ONCE = 32;
/** Of those that are live the file has only to tell which they are: the state has them. */
const LIVE_AT_ONCE = 512;
/** A page ends with the record that brings its workloads' text to this. */
const PAGE_CHARACTERS = 512 * 1_024;

/** As many records as fit a page, by count and by what they carry. */
function pageOf(
  list: (part: Pick<AllocationQuery, "before" | "limit">) => readonly Allocation[],
  from: AllocationId | null,
  size: number,
  atOnce: number,
): { readonly page: readonly Allocation[]; readonly isLast: boolean } {
  const page: Allocation[] = [];
  let characters = 0;
  for (let before = from; page.length < size && characters < PAGE_CHARACTERS; ) {
    const asked = Math.min(atOnce, size - page.length);
    // One more than asked for tells whether there are further ones.
    const found = list({ before, limit: asked + 1 });
    for (const allocation of found.slice(0, asked)) {
      page.push(allocation);
      characters += JSON.stringify(allocation.request.workloadData).length;
      if (characters >= PAGE_CHARACTERS) break;
    }
    if (found.length <= asked && page.at(-1) === found.at(-1)) return { page, isLast: true };
    before = page.at(-1)?.request.id ?? null;
  }
  return { page, isLast: false };
}

export function records({ scheduler }: EndpointParts): Operation {
  const check = checker(recordsQuerySchema);
  return {
    role: "read",
    body: "ignored",
    takesQuery: true,
    answer({ url, actor }) {
      const { status, service_name: serviceName, mine, before, limit } = check(queryOf(url));
      const size = limit === undefined ? DEFAULT_PAGE : Number(limit);
      const query = {
        status: status ?? null,
        serviceName: serviceName ?? null,
        principal: mine === "true" ? actor.principal : null,
      };
      const atOnce = status === undefined || status === "ended" ? RECORDS_AT_ONCE : LIVE_AT_ONCE;
      const { page, isLast } = pageOf((part) => scheduler.list({ ...query, ...part }), before ?? null, size, atOnce);
      const { state } = scheduler;
      const now = scheduler.now();
      return json(200, {
        allocations: recordsView(page, state, now, actor),
        next: isLast ? null : (page.at(-1)?.request.id ?? null),
      });
    },
  };
}
