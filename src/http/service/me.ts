/** `GET /gpu/me`: who calls, and what is the caller's. */
import { accountKey, accountNamed } from "../../core/host/accounts.ts";
import type { MeAnswer } from "../../wire/service/answers.ts";
import { json } from "../exchange/answers.ts";
import type { Call, Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";
import { quotasView } from "../quotas/quotas.ts";

const MAX_ALLOCATIONS = 1_000;

export function me(parts: EndpointParts): Operation {
  return { role: "read", body: "ignored", answer: (call) => json(200, meView(parts, call)) };
}

function meView({ scheduler, version, workNews }: EndpointParts, { actor, role, keyed }: Call): MeAnswer {
  const { state } = scheduler;
  const { principal } = actor;
  const own = [...state.allocations.values()].filter(({ request }) => request.principal === principal);
  const { accounts } = quotasView(state, scheduler.now(), { principal, admin: false });
  const { kind, name } = accountNamed(accountKey("principal", principal));
  const quota = accounts.find((account) => account.kind === kind && account.name === name) ?? null;
  return {
    principal,
    role,
    keyed,
    version,
    work: workNews !== null,
    quota,
    allocations: own.slice(0, MAX_ALLOCATIONS).map(({ request }) => request.id),
  };
}
