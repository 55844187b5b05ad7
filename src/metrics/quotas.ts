/** Quotas and what is used of them, of the accounts that the settings name: so the labels are bounded by the settings. */
import type { Registry } from "prom-client";
import { type AccountKey, accountKey, accountNamed, accountOf, quotaOf } from "../core/host/accounts.ts";
import type { Quotas } from "../core/model/policy.ts";
import { chargedMs, gpusOf } from "../core/queue/quotas.ts";
import { gaugeFamily } from "./families.ts";
import type { Instant } from "./instant.ts";

/** Accounts of each kind; further ones are left out. */
const MAX_ACCOUNTS = 100;
const MS_PER_HOUR = 3_600_000;

interface Figure {
  readonly resource: "gpus" | "queued" | "gpu_hours";
  readonly limit: number;
  /** `null`: not counted yet. */
  readonly used: number | null;
}

/** @param ofPrincipals whether whoever reads the page may know what principals have. */
export function registerQuotas(registry: Registry, look: () => Instant, ofPrincipals: boolean): void {
  const labelNames = ["kind", "account", "resource"] as const;
  const samples = (value: (figure: Figure) => number | null) => ({
    *read() {
      const now = look();
      for (const key of named(now.state.policy.quotas, ofPrincipals)) {
        const { kind, name } = accountNamed(key);
        for (const figure of figuresOf(key, now)) {
          yield { labels: { kind, account: name, resource: figure.resource }, value: value(figure) };
        }
      }
    },
  });
  gaugeFamily(registry, {
    name: "gpu_orchestrator_quota_limit",
    help: "What an account that the settings name may have: GPUs at once, waiting requests, GPU-hours per period",
    labelNames,
    ...samples(({ limit }) => limit),
  });
  gaugeFamily(registry, {
    name: "gpu_orchestrator_quota_used",
    help: "What it has of that; GPU-hours with those that running leases may still take until their max_duration",
    labelNames,
    ...samples(({ used }) => used),
  });
}

function named({ principals, services }: Quotas, ofPrincipals: boolean): readonly AccountKey[] {
  return [
    ...Object.keys(ofPrincipals ? principals : {})
      .slice(0, MAX_ACCOUNTS)
      .map((name) => accountKey("principal", name)),
    ...Object.keys(services)
      .slice(0, MAX_ACCOUNTS)
      .map((name) => accountKey("service", name)),
  ];
}

function figuresOf(key: AccountKey, { state, now }: Instant): readonly Figure[] {
  const { kind, name } = accountNamed(key);
  const quota = quotaOf(state.policy.quotas, kind, name);
  const account = accountOf(state.accounts, key, quota);
  const { maxGpus, maxQueued, gpuTime } = quota;
  const figures: Figure[] = [];
  if (maxGpus !== null) figures.push({ resource: "gpus", limit: maxGpus, used: gpusOf(account) });
  if (maxQueued !== null) figures.push({ resource: "queued", limit: maxQueued, used: account.waiting });
  if (gpuTime !== null) {
    const used = state.accounts.counted ? chargedMs(account, gpuTime, now) / MS_PER_HOUR : null;
    figures.push({ resource: "gpu_hours", limit: gpuTime.limitMs / MS_PER_HOUR, used });
  }
  return figures;
}
