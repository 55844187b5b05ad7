import { DEFAULT_PAGE, optionalReasonSchema } from "../../wire/asking.ts";
import { deliveriesQuerySchema } from "../../wire/deliveries/asks.ts";
import { json } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
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
