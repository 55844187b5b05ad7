import type { GpuUuid } from "../../core/model/ids.ts";
import { NO_REASON, optionalReasonSchema, reasonSchema } from "../../wire/asking.ts";
import { drainSchema, leaveOf } from "../../wire/gpus/asks.ts";
import { json } from "../exchange/answers.ts";
import { checker } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";
import { gpuViewOf } from "./views.ts";

export function governance({ scheduler }: EndpointParts, what: "cordon" | "uncordon" | "clear-quarantine"): Operation {
  const takesBack = what === "uncordon";
  const check = checker(takesBack ? optionalReasonSchema : reasonSchema);
  return {
    role: "admin",
    body: takesBack ? "optional" : "needed",
    async answer({ id, body, actor }) {
      const uuid = await scheduler.govern(what, id, check(body ?? {}).reason ?? NO_REASON, actor);
      return json(200, gpuViewOf(uuid, scheduler.state, scheduler.now(), actor));
    },
  };
}

export function gpuDrain({ scheduler }: EndpointParts): Operation {
  const check = checker(drainSchema);
  return {
    role: "admin",
    body: "needed",
    async answer({ id, body, actor }) {
      const given = check(body);
      const uuid = (await scheduler.drain(id, leaveOf(given), given.reason, actor)) as GpuUuid;
      return json(200, gpuViewOf(uuid, scheduler.state, scheduler.now(), actor));
    },
  };
}

export function gpuRemoval({ scheduler }: EndpointParts): Operation {
  const check = checker(optionalReasonSchema);
  return {
    role: "admin",
    body: "optional",
    async answer({ id, body, actor }) {
      const uuid = await scheduler.govern("remove-gpu", id, check(body ?? {}).reason ?? NO_REASON, actor);
      return json(200, { status: "removed", uuid });
    },
  };
}
