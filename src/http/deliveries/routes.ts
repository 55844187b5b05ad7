import { DEFAULT_PAGE, optionalReasonSchema } from "../../wire/asking.ts";
import { deliveriesQuerySchema, testSchema } from "../../wire/deliveries/asks.ts";
import { text } from "../../wire/values.ts";
import { testBody } from "../../wire/webhooks/bodies.ts";
import { json } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import { limitReached } from "../exchange/limits.ts";
import { HttpError, invalid } from "../exchange/problems.ts";
import type { EndpointParts } from "../parts.ts";
import { deliveryView } from "./views.ts";

/** Addresses may hold their receivers' secrets: for admins only. */
export function deliveries({ scheduler }: EndpointParts): Operation {
  const check = checker(deliveriesQuerySchema);
  return {
    role: "admin",
    body: "ignored",
    takesQuery: true,
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

/** As many as the deliverer makes at a time; one that comes later may come again so soon. */
const TEST_RETRY_MS = 5_000;

/**
 * Anybody's who may name a webhook with a request: a test goes nowhere that those may not go. Why there was no answer would
 * tell of other hosts' ports, so that is for admins.
 */
export function testing({ scheduler, checkWebhookUrl, webhookTester }: EndpointParts): Operation {
  const check = checker(testSchema);
  return {
    role: "allocate",
    body: "needed",
    async answer({ body, actor }) {
      const { url } = check(body);
      const objection = checkWebhookUrl(url);
      if (objection !== null) throw invalid([{ path: "url", message: objection }]);
      const tester = webhookTester();
      if (tester === null) throw new HttpError("not-ready", "no webhooks are sent yet");
      const came = await tester.test(url, actor.principal, testBody(actor.principal, scheduler.now()));
      if (came === null) throw limitReached("webhook tests", "another test is under way", TEST_RETRY_MS);
      const { deliveryId, httpStatus, error, isSigned, tookMs } = came;
      const told = httpStatus === null && !actor.admin ? "no answer; an admin is told why" : error;
      return json(200, {
        id: deliveryId,
        delivered: error === null,
        http_status: httpStatus,
        error: text(told),
        signed: isSigned,
        took_ms: Math.round(tookMs),
      });
    },
  };
}

export function redelivery({ scheduler }: EndpointParts): Operation {
  const check = checker(optionalReasonSchema);
  return {
    role: "admin",
    body: "optional",
    async answer({ id, body, actor }) {
      const { reason = null } = check(body ?? {});
      return json(200, deliveryView(await scheduler.redeliver(id, reason, actor)));
    },
  };
}
