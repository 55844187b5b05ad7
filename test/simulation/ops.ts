/** What can happen to the simulated host, drawn at random: values that any history can take up. */
import type { AllocateAsk } from "../../src/core/decisions/commands.ts";
import type { GpuUuid } from "../../src/core/model/ids.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import type { ProbeFailureKind } from "../../src/core/model/reading.ts";
import type { Random } from "../../src/monitor/simulated/random.ts";
import type { DrawnWindow } from "./drawn-windows.ts";
import { CRASH_POINTS, type CrashPoint, TROUBLES, type Trouble } from "./faulty-writer.ts";
import { CUT_GPU, CUTS, INSTANCES, type Mood, WHOLE_MOODS } from "./simulated-driver.ts";
import { ASK, DEFAULT_POLICY, minutes, NO_QUOTA, seconds } from "./simulated-host.ts";

export const PRINCIPALS = ["ann", "bob", "cyd"] as const;
export const ADMIN = "root";
/** The second begins with the first, as their ids do. */
export const SERVICES = ["a", "a-b", "b"] as const;
/** Most idempotency keys are new. Some are not: clients that count from 1 again. */
const NEW_KEYS = 1_000_000;
const OLD_KEYS = 6;

/** One allocation out of those that stand in `among`; `nobody`: an id that never was. */
export interface Pick {
  readonly among: "live" | "known" | "nobody";
  readonly n: number;
}
export type Who = "owner" | "stranger" | "admin";
export type TokenGiven = "none" | "right" | "stale";
export type AdminWord = "cordon" | "uncordon" | "clear-quarantine" | "remove-gpu";

export type Allocate = {
  readonly op: "allocate";
  readonly ask: AllocateAsk;
  readonly principal: string;
  readonly key: number | null;
  /** Its client goes before the answer is written. */
  readonly hangsUp: boolean;
};

/** What somebody asks of the daemon. */
export type ClientOp =
  | Allocate
  | {
      readonly op: "release";
      readonly pick: Pick;
      readonly who: Who;
      readonly token: TokenGiven;
      readonly key: number | null;
    }
  | {
      readonly op: "release service";
      readonly service: string;
      readonly principal: string;
      readonly key: number | null;
    }
  | {
      readonly op: "renew";
      readonly pick: Pick;
      readonly who: Who;
      readonly token: TokenGiven;
      readonly key: number | null;
    }
  | {
      readonly op: "extend";
      readonly pick: Pick;
      readonly who: Who;
      readonly token: TokenGiven;
      readonly ttlMs: number | null;
      readonly maxDurationMs: number | null;
    }
  | { readonly op: "nudge"; readonly pick: Pick; readonly who: Who }
  | { readonly op: "read"; readonly pick: Pick; readonly who: Who }
  | { readonly op: "wait"; readonly pick: Pick; readonly who: Who; readonly waitMs: number }
  | { readonly op: "leave"; readonly n: number }
  | {
      readonly op: "settle";
      readonly n: number;
      readonly outcome: "delivered" | "retry" | "gave-up";
      readonly retryMs: number;
    }
  /** A call with a key is sent once more, with the same body or another one. */
  | { readonly op: "again"; readonly n: number; readonly body: "same" | "other" }
  | { readonly op: "revoke"; readonly pick: Pick }
  /** The process of a lease ends, or of one that is bound to none: then nothing must come of it. */
  | { readonly op: "process gone"; readonly pick: Pick }
  | { readonly op: "redeliver"; readonly n: number }
  | { readonly op: "govern"; readonly word: AdminWord; readonly gpu: number }
  | {
      readonly op: "adopt";
      readonly gpu: number;
      readonly service: string;
      readonly principal: string | null;
      /** Whether the process that may be there is named. */
      readonly named: boolean;
      readonly ttlMs: number | null;
    }
  /** `gpu: null`: the host. */
  | { readonly op: "drain"; readonly gpu: number | null; readonly leaveMs: number | null }
  | { readonly op: "undrain" }
  | {
      readonly op: "book";
      /** How many, or one of these. */
      readonly gpus: number | readonly [string];
      readonly principal: string;
      /** Whose it is to be; `null`: the caller's. */
      readonly for: string | null;
      readonly service: string | null;
      readonly inMs: number;
      readonly lengthMs: number;
    }
  | { readonly op: "cancel booking"; readonly n: number; readonly principal: string };

/** How the daemon comes back. */
export interface Return {
  readonly awayMs: number;
  readonly reboot: boolean;
  /** How far ahead of the true time the wall clock stands then; `null`: as before. */
  readonly wallAheadMs: number | null;
  /** The new one dies too, in a transaction of its start. */
  readonly dies: { readonly point: CrashPoint; readonly skip: number } | null;
}

export type HostOp =
  | { readonly op: "pass"; readonly ms: number }
  | { readonly op: "together"; readonly ops: readonly ClientOp[] }
  | { readonly op: "attempt"; readonly n: number }
  | { readonly op: "mood"; readonly gpu: number; readonly mood: Mood }
  /** An operator cuts a GPU into MIG instances, or anew. */
  | { readonly op: "cut"; readonly into: number }
  | { readonly op: "use instance"; readonly uuid: GpuUuid; readonly inUse: boolean }
  | { readonly op: "presence"; readonly gpu: number; readonly present: boolean }
  | { readonly op: "driver"; readonly failure: ProbeFailureKind | null }
  | { readonly op: "monitor"; readonly on: boolean }
  | { readonly op: "probe"; readonly slow: boolean }
  | { readonly op: "pause"; readonly ms: number; readonly suspended: boolean }
  | { readonly op: "restart"; readonly back: Return }
  | {
      readonly op: "crash";
      readonly point: CrashPoint | "after the answer";
      /** Asked all at once. */
      readonly during: readonly ClientOp[] | "prune";
      readonly back: Return;
    }
  | { readonly op: "set clock"; readonly aheadMs: number }
  | { readonly op: "backup" }
  | { readonly op: "restore"; readonly back: Return }
  /** For so many jobs of the writer, after so many others. */
  | { readonly op: "trouble"; readonly trouble: Trouble; readonly jobs: number; readonly after: number }
  | { readonly op: "prune" }
  | { readonly op: "reconfigure"; readonly policy: number; readonly windows: readonly DrawnWindow[] }
  | { readonly op: "keys"; readonly principal: string; readonly valid: boolean };

export type Op = ClientOp | HostOp;

const NAMES: Readonly<Record<Op["op"], true>> = {
  allocate: true,
  release: true,
  "release service": true,
  renew: true,
  extend: true,
  nudge: true,
  read: true,
  wait: true,
  leave: true,
  settle: true,
  again: true,
  revoke: true,
  "process gone": true,
  redeliver: true,
  govern: true,
  adopt: true,
  drain: true,
  undrain: true,
  book: true,
  "cancel booking": true,
  pass: true,
  together: true,
  attempt: true,
  mood: true,
  cut: true,
  "use instance": true,
  presence: true,
  driver: true,
  monitor: true,
  probe: true,
  pause: true,
  restart: true,
  crash: true,
  "set clock": true,
  backup: true,
  restore: true,
  trouble: true,
  prune: true,
  reconfigure: true,
  keys: true,
};
export const OP_NAMES = Object.keys(NAMES);

/** The operator, who is told of foreign use. */
export const OPERATOR_URL = "http://127.0.0.1:9/operator";

export const POLICIES: readonly Policy[] = [
  {
    ...DEFAULT_POLICY,
    maxQueueSize: 8,
    sharing: { ...DEFAULT_POLICY.sharing, settleAfterMs: seconds(3), settleTimeoutMs: seconds(8) },
    foreignUse: "adopt",
    foreignUseReadings: 2,
    foreignUseWebhookUrl: OPERATOR_URL,
    preemption: { minPriorityGap: 1, graceMs: seconds(8), minRuntimeMs: 0 },
  },
  {
    ...DEFAULT_POLICY,
    maxQueueSize: 3,
    reserveAfterMs: 0,
    patienceMs: seconds(20),
    endlessAfterMs: seconds(60),
    holdLate: true,
    agingIntervalMs: seconds(5),
    abandonAfterMs: seconds(5),
    claimTimeoutMs: seconds(5),
    queueTimeoutMs: seconds(40),
    defaultTtlMs: seconds(90),
    verifyRelease: "always",
    reclaimTimeoutMs: seconds(10),
    idleAfterMs: seconds(10),
    sharing: { ...DEFAULT_POLICY.sharing, maxLeasesPerGpu: 2, settleAfterMs: 0, settleTimeoutMs: seconds(1) },
    foreignUse: "notify",
    foreignUseReadings: 1,
    foreignUseWebhookUrl: OPERATOR_URL,
  },
  {
    ...DEFAULT_POLICY,
    maxQueueSize: 8,
    abandonAfterMs: minutes(5),
    verifyRelease: "never",
    patienceMs: 0,
    preferWide: false,
    refreshIntervalMs: seconds(2),
    staleAfterMs: seconds(8),
    idleAfterMs: seconds(5),
    reclaimIdleAfterMs: seconds(5),
    foreignUseWebhookUrl: OPERATOR_URL,
    preemption: { minPriorityGap: 3, graceMs: seconds(3), minRuntimeMs: seconds(2) },
    quotas: {
      principals: { ann: { maxGpus: 2, maxQueued: 2, maxPriority: 8, gpuTime: null } },
      services: { "a-b": { ...NO_QUOTA, maxGpus: 1 } },
      defaultPrincipal: { ...NO_QUOTA, gpuTime: { limitMs: minutes(20), periodMs: minutes(60) } },
      defaultService: { ...NO_QUOTA, maxGpus: 3 },
    },
    fairShare: { halfLifeMs: minutes(2), maxDelayMs: seconds(30) },
  },
];

const GPUS = 5;
/** The place of no device. */
const NOWHERE = 99;
const YEAR_MS = 365 * 24 * 3_600_000;

class Draw {
  readonly #random: Random;
  constructor(random: Random) {
    this.#random = random;
  }
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }
  chance(share: number): boolean {
    return this.#random() < share;
  }
  one<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
  pick(): Pick {
    const lot = this.#random();
    return { among: lot < 0.85 ? "live" : lot < 0.98 ? "known" : "nobody", n: this.below(64) };
  }
  who(): Who {
    const lot = this.#random();
    return lot < 0.85 ? "owner" : lot < 0.93 ? "admin" : "stranger";
  }
  token(): TokenGiven {
    const lot = this.#random();
    return lot < 0.5 ? "none" : lot < 0.85 ? "right" : "stale";
  }
  /** One of the simulated driver's devices, its instances seldom; or none of them. */
  device(): number {
    const lot = this.#random();
    return lot < 0.8 ? this.below(GPUS) : lot < 0.95 ? GPUS + this.below(INSTANCES.size) : NOWHERE;
  }
  key(): number | null {
    if (!this.chance(0.2)) return null;
    return this.below(this.chance(0.1) ? OLD_KEYS : NEW_KEYS);
  }
}

function drawAsk(draw: Draw): AllocateAsk {
  const maxUtilizationPercent = draw.chance(0.1) ? draw.one([50, 100]) : null;
  return {
    ...ASK,
    serviceName: draw.one(SERVICES),
    workloadType: draw.one(["generic", "training", "inference"]),
    workloadData: draw.chance(0.05) ? { estimated_duration: draw.between(1, 60) } : {},
    requiredGpus: draw.one([1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 6]),
    minMemoryMib: draw.one([1_000, 1_000, 1_000, 1_000, 1_000, 13_000, 15_360, 40_000, 81_559, 90_000]),
    maxUtilizationPercent,
    priority: draw.chance(0.5) ? null : draw.between(1, 10),
    webhookUrl: draw.chance(0.5) ? "http://127.0.0.1:9/hook" : null,
    preferredGpus: draw.chance(0.1) ? [draw.one(["GPU-b", "3"])] : [],
    ...(draw.chance(0.05) ? drawExact(draw) : {}),
    ...(draw.chance(0.18) ? drawInstances(draw) : {}),
    gpuModel: draw.chance(0.2) ? draw.one(["T4", "h100"]) : null,
    ttlMs: draw.chance(0.7) ? draw.between(1_000, 120_000) : null,
    maxDurationMs: draw.chance(0.3) ? draw.between(500, 120_000) : null,
    preemptible: draw.chance(0.4),
    queue: draw.chance(0.85),
    ...(draw.chance(0.2) ? { boundTo: { pid: draw.between(2, 99), startTicks: draw.below(1_000) } } : {}),
    queueTimeoutMs: draw.chance(0.2) ? draw.between(1_000, 60_000) : null,
    sharing: draw.chance(0.3) ? "shared" : "exclusive",
  };
}

/** In an order of its own, as many as it names. */
function drawExact(draw: Draw): Partial<AllocateAsk> {
  const exactGpus = draw.one([["0"], ["1"], ["GPU-b"], ["2", "1"], ["GPU-c", "GPU-a"], ["4"], ["MIG-9-0"]]);
  return { exactGpus, requiredGpus: exactGpus.length };
}

/** Two of three compute instances beside the third often ask for more than is left of the memory that they share. */
function drawInstances(draw: Draw): Partial<AllocateAsk> {
  const migProfile = draw.one(["1c.3g.71gb", "1c.3g.71gb", "2c.3g.71gb", "1g.10gb", "1g.10gb"]);
  return {
    migProfile,
    requiredGpus: draw.chance(0.6) ? 1 : 2,
    minMemoryMib:
      migProfile === "1g.10gb" ? draw.one([1_000, 9_000]) : draw.one([1_000, 30_000, 30_000, 40_000, 71_000]),
    sharing: "exclusive",
  };
}

function drawWindows(draw: Draw): readonly DrawnWindow[] {
  return Array.from({ length: draw.one([0, 0, 1, 1, 2]) }, () => drawWindow(draw));
}

/** One that opens soon, or is open already. */
function drawWindow(draw: Draw): DrawnWindow {
  return {
    gpus: draw.chance(0.6) ? draw.between(1, 3) : draw.one([["GPU-a"], ["GPU-b", "GPU-c"], [CUT_GPU], ["MIG-9-0"]]),
    members: draw.chance(0.5)
      ? { principals: [draw.one(PRINCIPALS)], services: [], workloadTypes: [] }
      : { principals: [], services: [draw.one(SERVICES)], workloadTypes: [] },
    minutes: draw.one([[0], [1], [0, 2], [1, 3, 4], [3], [0, 1, 2, 4, 8, 16]]),
    durationMs: draw.between(30_000, 150_000),
  };
}

function drawReturn(draw: Draw): Return {
  const length = draw.below(10);
  const wall = draw.below(10);
  return {
    awayMs: draw.below(length < 5 ? 1_500 : length < 8 ? minutes(3) : minutes(60 * 30)),
    reboot: draw.chance(0.2),
    wallAheadMs: wall === 0 ? YEAR_MS : wall === 1 ? -YEAR_MS : wall < 4 ? 0 : null,
    dies: draw.chance(0.1) ? { point: draw.one(CRASH_POINTS), skip: draw.below(2) } : null,
  };
}

/** Each draws one kind; beside it how often it comes, in histories of a few hundred and in endless ones. */
const CLIENT_OPS: readonly (readonly [weight: number, draw: (draw: Draw) => ClientOp])[] = [
  [
    30,
    (draw) => ({
      op: "allocate",
      ask: drawAsk(draw),
      principal: draw.one(PRINCIPALS),
      key: draw.key(),
      hangsUp: draw.chance(0.06),
    }),
  ],
  [14, (draw) => ({ op: "release", pick: draw.pick(), who: draw.who(), token: draw.token(), key: draw.key() })],
  [
    2,
    (draw) => ({
      op: "release service",
      service: draw.one(SERVICES),
      principal: draw.chance(0.2) ? ADMIN : draw.one(PRINCIPALS),
      key: draw.key(),
    }),
  ],
  [10, (draw) => ({ op: "renew", pick: draw.pick(), who: draw.who(), token: draw.token(), key: draw.key() })],
  [
    2,
    (draw) => ({
      op: "extend",
      pick: draw.pick(),
      who: draw.who(),
      token: draw.token(),
      ttlMs: draw.chance(0.5) ? draw.between(1_000, 120_000) : null,
      maxDurationMs: draw.chance(0.6) ? draw.between(500, 240_000) : null,
    }),
  ],
  [2, (draw) => ({ op: "nudge", pick: draw.pick(), who: draw.who() })],
  [8, (draw) => ({ op: "read", pick: draw.pick(), who: draw.who() })],
  [6, (draw) => ({ op: "wait", pick: draw.pick(), who: draw.who(), waitMs: draw.between(100, 60_000) })],
  [2, (draw) => ({ op: "leave", n: draw.below(8) })],
  [
    13,
    (draw) => ({
      op: "settle",
      n: draw.below(8),
      outcome: draw.one(["delivered", "delivered", "delivered", "retry", "gave-up"]),
      retryMs: draw.between(1_000, 60_000),
    }),
  ],
  [4, (draw) => ({ op: "again", n: draw.below(8), body: draw.chance(0.7) ? "same" : "other" })],
  [1, (draw) => ({ op: "revoke", pick: draw.pick() })],
  [2, (draw) => ({ op: "process gone", pick: draw.pick() })],
  [2, (draw) => ({ op: "redeliver", n: draw.below(8) })],
  [
    4,
    (draw) => ({
      op: "govern",
      // What is taken out of service comes back sooner.
      word: draw.one([
        "cordon",
        "uncordon",
        "uncordon",
        "uncordon",
        "clear-quarantine",
        "clear-quarantine",
        "remove-gpu",
      ]),
      gpu: draw.device(),
    }),
  ],
  [
    2,
    (draw) => ({
      op: "adopt",
      gpu: draw.device(),
      service: draw.one(SERVICES),
      principal: draw.chance(0.3) ? null : draw.one(PRINCIPALS),
      named: draw.chance(0.2),
      ttlMs: draw.chance(0.7) ? draw.between(1_000, 60_000) : null,
    }),
  ],
  [
    1,
    (draw) => ({
      op: "drain",
      gpu: draw.chance(0.3) ? null : draw.device(),
      leaveMs: draw.chance(0.3) ? null : draw.between(1, 30_000),
    }),
  ],
  [2, () => ({ op: "undrain" })],
  [
    2,
    (draw) => ({
      op: "book",
      gpus: draw.chance(0.7) ? draw.between(1, 4) : [draw.one(["0", "GPU-b", "3"])],
      principal: draw.chance(0.3) ? ADMIN : draw.one(PRINCIPALS),
      for: draw.chance(0.3) ? draw.one(PRINCIPALS) : null,
      service: draw.chance(0.3) ? draw.one(SERVICES) : null,
      inMs: draw.between(-5_000, 120_000),
      lengthMs: draw.between(50_000, 180_000),
    }),
  ],
  [
    1,
    (draw) => ({ op: "cancel booking", n: draw.below(8), principal: draw.chance(0.5) ? ADMIN : draw.one(PRINCIPALS) }),
  ],
];

const clientOp = (draw: Draw): ClientOp => weighted(draw, CLIENT_OPS, (entry) => entry[0])[1](draw);

function several(draw: Draw, least: number, most: number): readonly ClientOp[] {
  return Array.from({ length: draw.between(least, most) }, () => clientOp(draw));
}

const HOST_OPS: readonly (readonly [inHistories: number, inLongRuns: number, draw: (draw: Draw) => Op])[] = [
  [80, 90, clientOp],
  [8, 8, (draw) => ({ op: "together", ops: several(draw, 2, 6) })],
  [
    26,
    26,
    (draw) => {
      const length = draw.below(20);
      return { op: "pass", ms: draw.between(1, length < 10 ? 500 : length < 18 ? 4_000 : 40_000) };
    },
  ],
  [14, 14, (draw) => ({ op: "attempt", n: draw.below(8) })],
  [
    16,
    16,
    (draw) => ({
      op: "mood",
      gpu: draw.below(GPUS),
      mood: draw.chance(0.6) ? "idle" : draw.chance(0.5) ? "busy" : draw.one(WHOLE_MOODS),
    }),
  ],
  [2, 1, (draw) => ({ op: "cut", into: draw.below(CUTS.length) })],
  [5, 5, (draw) => ({ op: "use instance", uuid: draw.one([...INSTANCES.keys()]), inUse: draw.chance(0.5) })],
  // Faults come seldom and heal often, or most of a history would pass with nothing to grant.
  [3, 3, (draw) => ({ op: "presence", gpu: draw.below(GPUS), present: draw.chance(0.85) })],
  [2, 2, (draw) => ({ op: "driver", failure: draw.chance(0.85) ? null : draw.one(["driver", "timeout", "gpu-lost"]) })],
  [2, 2, (draw) => ({ op: "monitor", on: draw.chance(0.9) })],
  [8, 8, (draw) => ({ op: "probe", slow: draw.chance(0.3) })],
  [
    2,
    0.2,
    (draw) => ({
      op: "pause",
      ms: draw.chance(0.5) ? draw.between(1_000, seconds(15)) : draw.between(1_000, minutes(draw.one([5, 5, 12]))),
      suspended: draw.chance(0.5),
    }),
  ],
  [1, 0.06, (draw) => ({ op: "restart", back: drawReturn(draw) })],
  [
    3,
    0.2,
    (draw) => ({
      op: "crash",
      point: draw.one([...CRASH_POINTS, "after the answer"] as const),
      during: draw.chance(0.1) ? "prune" : several(draw, 1, 4),
      back: drawReturn(draw),
    }),
  ],
  [1, 0.2, (draw) => ({ op: "set clock", aheadMs: draw.one([YEAR_MS, -YEAR_MS, 0]) })],
  [1, 0.1, () => ({ op: "backup" })],
  [0.7, 0.04, (draw) => ({ op: "restore", back: drawReturn(draw) })],
  [
    3,
    1,
    (draw) => ({
      op: "trouble",
      trouble: draw.one(TROUBLES),
      jobs: draw.between(1, 6),
      after: draw.chance(0.5) ? 0 : draw.between(1, 3),
    }),
  ],
  [5, 0.4, () => ({ op: "prune" })],
  [3, 1, (draw) => ({ op: "reconfigure", policy: draw.below(POLICIES.length), windows: drawWindows(draw) })],
  [2, 0.5, (draw) => ({ op: "keys", principal: draw.one(PRINCIPALS), valid: draw.chance(0.85) })],
];

function weighted<T>(draw: Draw, entries: readonly T[], weightOf: (entry: T) => number): T {
  const total = entries.reduce((sum, entry) => sum + weightOf(entry), 0);
  let lot = draw.below(1_000_000) * (total / 1_000_000);
  for (const entry of entries) {
    lot -= weightOf(entry);
    if (lot < 0) return entry;
  }
  return entries[0] as T;
}

/** @param run which of the two mixes: in a long run the daemon lives longer. */
export function drawOp(random: Random, run: "history" | "long"): Op {
  const draw = new Draw(random);
  const column = run === "history" ? 0 : 1;
  return weighted(draw, HOST_OPS, (entry) => entry[column])[2](draw);
}
