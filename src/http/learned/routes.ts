/** `/gpu/learned`: the memory that leases were seen to use, by kind. For admins: settings are their owners' business. */
import type { LearnedKind } from "../../ports/learned.ts";
import type { LearnedAnswer } from "../../wire/learned/answers.ts";
import { forgetQuerySchema } from "../../wire/learned/asks.ts";
import { timestamp } from "../../wire/values.ts";
import { json } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import type { EndpointParts } from "../parts.ts";

export function learned({ lessons }: EndpointParts): Operation {
  return { role: "admin", body: "ignored", answer: () => json(200, { kinds: lessons.list().map(kindView) }) };
}

export function forgetting({ lessons, scheduler }: EndpointParts): Operation {
  const check = checker(forgetQuerySchema);
  return {
    role: "admin",
    body: "ignored",
    takesQuery: true,
    async answer({ url, actor }) {
      const { key = null } = check(queryOf(url));
      return json(200, { forgotten: await lessons.forget(key, actor, scheduler.now()) });
    },
  };
}

function kindView(kind: LearnedKind): LearnedAnswer["kinds"][number] {
  return {
    key: kind.key,
    service_name: kind.service,
    workload_type: kind.workloadType,
    model: kind.model,
    settings: { ...kind.settings },
    runs: kind.peaksMib.length,
    readings: kind.readings,
    highest_mb: Math.max(...kind.peaksMib),
    suggested_mb: kind.suggestedMib,
    last_at: timestamp(kind.lastAt),
  };
}
