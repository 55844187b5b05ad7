import { planOf } from "../../core/explain/plan.ts";
import { allocateSchema, workloadSchema } from "../../wire/allocations/asks.ts";
import { warningsOf, warningsPart } from "../../wire/allocations/warnings.ts";
import { checkedAsk, informed, kindAsked, workloadAsk } from "../allocations/asks.ts";
import { onBehalfOf } from "../allocations/on-behalf.ts";
import { json } from "../exchange/answers.ts";
import { checker } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";
import { planView, workloadView } from "./views.ts";
import { workflowView } from "./workflow.ts";

/** The longest that an advisor is waited for. */
const ADVICE_WAIT_MS = 2_000;

export function workload({ scheduler, knowledge }: EndpointParts): Operation {
  const check = checker(workloadSchema);
  return {
    role: "read",
    body: "needed",
    async answer({ body, actor }) {
      const asked = check(body);
      const serviceName = asked.service_name ?? null;
      const ask = { ...workloadAsk(asked), ...kindAsked(asked) };
      const [known, workflow] = await Promise.all([
        informed(ask, serviceName, knowledge, ADVICE_WAIT_MS),
        workflowView(ask.workloadData, knowledge, ADVICE_WAIT_MS, () => scheduler.state, actor),
      ]);
      const view = workloadView(known, { principal: actor.principal, serviceName }, scheduler.state, workflow);
      return json(200, { ...view, ...warningsPart(warningsOf(asked)) });
    },
  };
}

/** A dry run: the same checks, the same decision, and nothing of it kept. */
export function plan({ scheduler, checkWebhookUrl, knowledge }: EndpointParts): Operation {
  const check = checker(allocateSchema);
  return {
    role: "read",
    body: "needed",
    async answer(call) {
      const given = check(call.body);
      const { actor } = onBehalfOf(call, given.on_behalf_of);
      const stated = checkedAsk(given, checkWebhookUrl);
      const ask = await informed(stated, stated.serviceName, knowledge, 0);
      const { state } = scheduler;
      const now = scheduler.now();
      return json(200, {
        ...planView(ask, actor, planOf(state, ask, actor, now), state),
        ...warningsPart(warningsOf(given)),
      });
    },
  };
}
