import { planOf } from "../../core/explain/plan.ts";
import { allocateSchema, workloadSchema } from "../../wire/allocations/asks.ts";
import { checkedAsk, kindAsked, workloadAsk } from "../allocations/asks.ts";
import { json } from "../exchange/answers.ts";
import { checker } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";
import { planView, workloadView } from "./views.ts";

export function workload({ scheduler }: EndpointParts): Operation {
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
export function plan({ scheduler, checkWebhookUrl }: EndpointParts): Operation {
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
