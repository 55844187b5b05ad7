/**
 * `GET /gpu/quotas`: what accounts may have, have and have left. Callers see their own principal and all services; admins
 * see every principal.
 */

import type { EpochMs } from "../../core/base/time.ts";
import {
  type AccountKey,
  accountKey,
  accountNamed,
  accountOf,
  periodStart,
  quotaOf,
} from "../../core/host/accounts.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Actor } from "../../core/model/ids.ts";
import type { Quotas } from "../../core/model/policy.ts";
import { chargedMs, gpusOf, remainingOf } from "../../core/queue/quotas.ts";
import { printable } from "../../platform/printable.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { QuotaAnswer, QuotasAnswer } from "../../wire/quotas/answers.ts";
import { hoursOf, timestamp } from "../../wire/values.ts";
import { json } from "../exchange/answers.ts";
import type { Operation } from "../exchange/endpoint.ts";

export function quotas(scheduler: Scheduler): Operation {
  return {
    role: "read",
    body: "ignored",
    answer: ({ actor }) => json(200, quotasView(scheduler.state, scheduler.now(), actor)),
  };
}

export function quotasView(state: HostState, now: EpochMs, actor: Actor): QuotasAnswer {
  const keys = [...accountsShown(state, actor)].sort();
  return { now: timestamp(now), accounts: keys.map((key) => accountView(key, state, now)) };
}

/** Those named in the settings, those that have something under a default, and the caller's own. */
function accountsShown({ policy: { quotas }, accounts }: HostState, actor: Actor): ReadonlySet<AccountKey> {
  const keys = new Set([accountKey("principal", actor.principal), ...namedAccounts(quotas)]);
  for (const { kind, name } of accounts.byKey.values()) keys.add(accountKey(kind, name));
  const isOthers = (key: AccountKey) => {
    const { kind, name } = accountNamed(key);
    return kind === "principal" && name !== actor.principal;
  };
  return actor.admin ? keys : new Set([...keys].filter((key) => !isOthers(key)));
}

function namedAccounts({ principals, services }: Quotas): readonly AccountKey[] {
  return [
    ...Object.keys(principals).map((name) => accountKey("principal", name)),
    ...Object.keys(services).map((name) => accountKey("service", name)),
  ];
}

function accountView(key: AccountKey, state: HostState, now: EpochMs): QuotaAnswer {
  const { kind, name } = accountNamed(key);
  const quota = quotaOf(state.policy.quotas, kind, name);
  const account = accountOf(state.accounts, key, quota);
  const left = remainingOf(account, state, now);
  const { maxGpus, maxQueued, maxPriority, gpuTime } = quota;
  return {
    kind,
    name: printable(name),
    gpus: maxGpus === null ? null : { limit: maxGpus, used: gpusOf(account), left: Math.max(0, left.gpus) },
    queued:
      maxQueued === null
        ? null
        : { limit: maxQueued, used: account.waiting, left: Math.max(0, maxQueued - account.waiting) },
    max_priority: maxPriority,
    gpu_hours:
      gpuTime === null
        ? null
        : {
            limit: hoursOf(gpuTime.limitMs),
            ...(state.accounts.counted
              ? { used: hoursOf(chargedMs(account, gpuTime, now)), left: hoursOf(left.gpuMs) }
              : { used: null, left: null }),
            period_seconds: gpuTime.periodMs / 1_000,
            period_from: timestamp(periodStart(now, gpuTime.periodMs)),
            renews_at: timestamp(periodStart(now, gpuTime.periodMs) + gpuTime.periodMs),
          },
  };
}
