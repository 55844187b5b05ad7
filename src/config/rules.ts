/** What settings must hold together. Each rule names the settings it reads, and is skipped when one of them is wrong. */
import { WORKLOAD_TYPES } from "../core/model/workload.ts";
import { type Config, isLoopback } from "./config.ts";
import type { Path } from "./document.ts";
import { webhookSecretBytes } from "./settings.ts";

export interface Finding {
  readonly path: Path;
  readonly message: string;
}

export interface Rule {
  /** The first is where a finding is reported. */
  readonly reads: readonly [Path, ...Path[]];
  /** What is wrong, or `null`. */
  check(config: Config): string | null;
}

/** With each of them a service of its own, a decision takes some milliseconds. */
const MAX_QUEUE_OF_UNNAMED_SERVICES = 1_000;

/** What a role or MLOC's protocol cannot do without. */
const OF_CLUSTER: readonly Rule[] = [
  {
    reads: [
      ["cluster", "role"],
      ["cluster", "redis_url"],
      ["cluster", "secret_file"],
      ["work", "enabled"],
    ],
    check({ cluster: { role, redisUrl, secretFile }, work }) {
      if (role === null) return null;
      if (!work.enabled) return "hosts share the running of work: set work.enabled: true";
      if (redisUrl === null) return "needs cluster.redis_url (REDIS_URL)";
      if (secretFile === null) return "who can write to Redis must not command nodes: set cluster.secret_file";
      return null;
    },
  },
  {
    reads: [
      ["cluster", "redis_url"],
      ["cluster", "role"],
    ],
    check({ cluster: { role, redisUrl } }) {
      if (role === null || redisUrl === null || /^rediss(?:\+sentinel)?:/.test(redisUrl)) return null;
      const hosts = redisUrl
        .replace(/^[^:]*:\/\/(?:.*@)?/, "")
        .replace(/\/.*$/, "")
        .split(",");
      const isNear = hosts.every((host) => isLoopback(host.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1")));
      return isNear ? null : "documents would cross the network in the clear: use rediss://, or a Redis on loopback";
    },
  },
  {
    reads: [
      ["cluster", "mloc"],
      ["cluster", "redis_url"],
      ["work", "enabled"],
      ["work", "executors"],
    ],
    check({ cluster: { mloc, redisUrl }, work }) {
      const [named] = Object.entries(work.executors).find(([, { type }]) => type === "mloc") ?? [];
      if (!mloc)
        return named === undefined ? null : `the executor ${named} is of MLOC's workers: set cluster.mloc: true`;
      if (!work.enabled) return "MLOC's workers are given work: set work.enabled: true";
      return redisUrl === null ? "needs cluster.redis_url (REDIS_URL)" : null;
    },
  },
  {
    reads: [
      ["cluster", "heartbeat_ttl"],
      ["cluster", "heartbeat_interval"],
    ],
    check: ({ cluster: { heartbeatTtlMs, heartbeatIntervalMs } }) =>
      heartbeatTtlMs >= 2 * heartbeatIntervalMs ? null : "must be at least two cluster.heartbeat_interval long",
  },
];

const CONTRADICTIONS: readonly Rule[] = [
  ...OF_CLUSTER,
  {
    reads: [
      ["server", "socket"],
      ["work", "enabled"],
      ["auth", "enabled"],
    ],
    check: ({ server, work, auth }) =>
      server.socket === null || !work.enabled || auth.enabled
        ? null
        : "with a socket nothing listens at the port unless auth.enabled is true, and workers call at the port",
  },
  {
    reads: [
      ["server", "host"],
      ["auth", "enabled"],
      ["server", "allow_unauthenticated"],
    ],
    check: ({ server, auth }) =>
      isLoopback(server.host) || auth.enabled || server.allowUnauthenticated
        ? null
        : `${server.host} can be reached from other hosts while auth.enabled is false: ` +
          "set auth.enabled: true, or server.allow_unauthenticated: true if everybody there may lease GPUs",
  },
  {
    reads: [
      ["server", "allowed_origins"],
      ["auth", "enabled"],
      ["server", "allow_unauthenticated"],
    ],
    check: ({ server, auth }) =>
      server.allowedOrigins.length === 0 || auth.enabled || server.allowUnauthenticated
        ? null
        : "every script of such a page would be an admin while auth.enabled is false: " +
          "set auth.enabled: true, or server.allow_unauthenticated: true if that is meant",
  },
  {
    reads: [
      ["server", "listeners"],
      ["server", "port"],
    ],
    check({ server: { port, listeners } }) {
      const taken = new Set([port]);
      for (const { port: further } of listeners) {
        if (further !== 0 && taken.has(further)) return `port ${further} is named twice, here or by server.port`;
        taken.add(further);
      }
      return null;
    },
  },
  {
    reads: [["server", "tls"]],
    check: ({ server: { tls } }) => {
      if (tls === null || (tls.cert !== "" && tls.key !== "")) return null;
      return `a certificate needs its key: set server.tls.${tls.cert === "" ? "cert" : "key"} too`;
    },
  },
  {
    reads: [
      ["auth", "enabled"],
      ["auth", "api_keys"],
    ],
    check: ({ auth }) =>
      auth.enabled && auth.keys.length === 0 ? "nobody could get in: auth.api_keys is empty" : null,
  },
  {
    reads: [
      ["work", "enabled"],
      ["auth", "enabled"],
      ["work", "allow_unauthenticated"],
    ],
    check: ({ work, auth }) =>
      !work.enabled || auth.enabled || work.allowUnauthenticated
        ? null
        : "everybody who reaches the daemon could start programs while auth.enabled is false: " +
          "set auth.enabled: true, or work.allow_unauthenticated: true if that is meant",
  },
  {
    reads: [
      ["quotas", "default_service"],
      ["scheduler", "max_queue_size"],
    ],
    check: ({ quotas: { defaultService }, scheduler }) =>
      (defaultService.maxGpus === null && defaultService.gpuTime === null) ||
      scheduler.maxQueueSize <= MAX_QUEUE_OF_UNNAMED_SERVICES
        ? null
        : "keeps every service that waits apart, in every decision, and clients choose their services' names: name those " +
          `that have max_gpus or gpu_hours, or let scheduler.max_queue_size be ${MAX_QUEUE_OF_UNNAMED_SERVICES} at most`,
  },
  {
    reads: [
      ["auth", "api_keys"],
      ["quotas", "principals"],
    ],
    check: ({ auth, quotas }) => {
      const given = new Set(Object.keys(quotas.principals));
      for (const { principal, quotas: own } of auth.keys) {
        if (own === null) continue;
        if (given.has(principal)) return `the quotas of ${JSON.stringify(principal)} are given twice`;
        given.add(principal);
      }
      return null;
    },
  },
  {
    reads: [
      ["monitoring", "stale_after"],
      ["monitoring", "refresh_interval"],
    ],
    check: ({ monitoring }) =>
      monitoring.staleAfterMs > monitoring.refreshIntervalMs
        ? null
        : "must be longer than monitoring.refresh_interval, or every reading is stale before the next one comes",
  },
  ...WORKLOAD_TYPES.flatMap((type): Rule[] => [
    {
      reads: [
        ["workload_defaults", type, "xlarge_batch_size"],
        ["workload_defaults", type, "large_batch_size"],
      ],
      check: ({ workloadDefaults: { [type]: own } }) =>
        own.xlargeBatchSize >= own.largeBatchSize ? null : `must be at least large_batch_size, ${own.largeBatchSize}`,
    },
    {
      reads: [
        ["workload_defaults", type, "very_high_concurrency"],
        ["workload_defaults", type, "high_concurrency"],
      ],
      check: ({ workloadDefaults: { [type]: own } }) =>
        own.veryHighConcurrency >= own.highConcurrency
          ? null
          : `must be at least high_concurrency, ${own.highConcurrency}`,
    },
  ]),
];

/** Standard Webhooks 1.0.0 asks for at least so many. */
const SHORTEST_STRONG_SECRET_BYTES = 24;
const WEAK = `shorter than ${SHORTEST_STRONG_SECRET_BYTES} bytes, so it could be guessed`;
const isWeak = (secret: string) => webhookSecretBytes(secret) < SHORTEST_STRONG_SECRET_BYTES;

const WARNINGS: readonly Rule[] = [
  {
    reads: [
      ["auth", "api_keys"],
      ["auth", "enabled"],
    ],
    check: ({ auth }) =>
      auth.enabled || auth.keys.length === 0
        ? null
        : "not asked for, since auth.enabled is false: everybody is an admin",
  },
  {
    reads: [
      ["allocator", "foreign_use_webhook_url"],
      ["allocator", "foreign_use"],
    ],
    check: ({ allocator }) =>
      allocator.foreignUseWebhookUrl === null || allocator.foreignUse !== "exclude"
        ? null
        : "told of nothing, since allocator.foreign_use is exclude",
  },
  {
    reads: [["webhooks", "secret"]],
    check: ({ webhooks: { secrets } }) => (secrets.some(isWeak) ? WEAK : null),
  },
  {
    reads: [["webhooks", "secrets"]],
    check: ({ webhooks: { secretsByPrincipal } }) =>
      Object.values(secretsByPrincipal).flat().some(isWeak) ? WEAK : null,
  },
];

/** @param further rules of rooms that know more about their own settings. */
export function contradictions(
  config: Config,
  further: readonly Rule[],
  isWrong: (path: Path) => boolean,
): readonly Finding[] {
  return findings([...CONTRADICTIONS, ...further], config, isWrong);
}

export function warnings(config: Config): readonly Finding[] {
  return findings(WARNINGS, config, () => false);
}

function findings(rules: readonly Rule[], config: Config, isWrong: (path: Path) => boolean): readonly Finding[] {
  return rules.flatMap((rule) => {
    const message = rule.reads.some(isWrong) ? null : rule.check(config);
    return message === null ? [] : [{ path: rule.reads[0], message }];
  });
}
