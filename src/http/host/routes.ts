import { NO_REASON, optionalReasonSchema } from "../../wire/asking.ts";
import { drainSchema, leaveOf } from "../../wire/gpus/asks.ts";
import { json } from "../exchange/answers.ts";
import { checker } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";
import { hostDrainView, listView, statusView } from "./views.ts";

export function hostDrain({ scheduler }: EndpointParts): Operation {
  const check = checker(drainSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ body, actor }) {
      const given = check(body);
      await scheduler.drain(null, leaveOf(given), given.reason, actor);
      return json(200, hostDrainView(scheduler.state));
    },
  };
}

export function hostUndrain({ scheduler }: EndpointParts): Operation {
  const check = checker(optionalReasonSchema);
  return {
    role: "admin",
    body: "optional",
    async answer({ body, actor }) {
      await scheduler.undrain(check(body ?? {}).reason ?? NO_REASON, actor);
      return json(200, hostDrainView(scheduler.state));
    },
  };
}

export function status({ scheduler }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer: ({ actor }) => json(200, statusView(scheduler.state, scheduler.now(), actor)),
  };
}

export function list({ scheduler }: EndpointParts): Operation {
  return {
    role: "read",
    body: "ignored",
    answer: ({ actor }) => json(200, listView(scheduler, actor)),
  };
}
