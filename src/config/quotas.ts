/** `quotas`: what principals and services may have. A named one that leaves a limit out has that of the default. */
import type { z } from "zod";
import type { Quota } from "../core/model/policy.ts";
import { MAX_PRIORITY, MIN_PRIORITY } from "../core/model/workload.ts";
import { sectionsByName } from "./by-name.ts";
import { decimal, duration, integer, nullable, type Read, type Refusal, section, setting } from "./settings.ts";

const MAX_NAMES = 10_000;
const MS_PER_HOUR = 3_600_000;

const maxGpus = nullable(integer(0, 1_024));
const maxQueued = nullable(integer(0, 1_000_000));
const maxPriority = nullable(integer(MIN_PRIORITY, MAX_PRIORITY));
const limit = nullable(decimal(0, 1_000_000_000));
/** Records are kept 30 days at least: what was used in a longer period could not be told after a restart. */
const per = duration("1h", "30d");

/** One quota with every limit: that of all who are not named. */
export function quota() {
  return section({
    max_gpus: setting(maxGpus, null),
    max_queued: setting(maxQueued, null),
    max_priority: setting(maxPriority, null),
    gpu_hours: section({ limit: setting(limit, null), per: setting(per, "24h") }),
  });
}
type WholeQuota = z.output<ReturnType<typeof quota>>;

const LEFT_OUT = Symbol("left out");

/** `undefined`: as the default has it. */
function inherited<T>(read: Read<T>) {
  return setting((value): T | undefined | Refusal => (value === LEFT_OUT ? undefined : read(value)), LEFT_OUT);
}

/** A quota of somebody named. */
export const partialQuota = section({
  max_gpus: inherited(maxGpus),
  max_queued: inherited(maxQueued),
  max_priority: inherited(maxPriority),
  gpu_hours: section({ limit: inherited(limit), per: inherited(per) }),
});
export type PartialQuota = z.output<typeof partialQuota>;

/** `{NAME: quota}`. */
export function quotasByName(name: Read<string>) {
  return sectionsByName(name, partialQuota, { lines: "NAME: {max_gpus, ...}", most: MAX_NAMES });
}

export function toQuota(given: PartialQuota, byDefault: WholeQuota): Quota {
  const { max_gpus, max_queued, max_priority, gpu_hours } = given;
  const hours = gpu_hours.limit === undefined ? byDefault.gpu_hours.limit : gpu_hours.limit;
  const periodMs = gpu_hours.per ?? byDefault.gpu_hours.per;
  return {
    maxGpus: max_gpus === undefined ? byDefault.max_gpus : max_gpus,
    maxQueued: max_queued === undefined ? byDefault.max_queued : max_queued,
    maxPriority: max_priority === undefined ? byDefault.max_priority : max_priority,
    gpuTime: hours === null ? null : { limitMs: Math.round(hours * MS_PER_HOUR), periodMs },
  };
}

export function toQuotas(given: Readonly<Record<string, PartialQuota>>, byDefault: WholeQuota) {
  return Object.fromEntries(Object.entries(given).map(([name, quota]) => [name, toQuota(quota, byDefault)]));
}
