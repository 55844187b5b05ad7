import type { Span } from "../base/time.ts";
import type { OwnModels, WorkloadDefaults, WorkloadType } from "./workload.ts";

/** Which windows a request may use is a bit for each of them. */
export const MAX_WINDOWS = 16;

/** Whose requests a window is for: those that are of one of each list that is not empty. */
export interface Members {
  readonly services: readonly string[];
  readonly principals: readonly string[];
  readonly workloadTypes: readonly WorkloadType[];
}

/** GPUs that are kept for some requests while it is open. */
export interface KeptWindow {
  /** Unique. */
  readonly name: string;
  /** How many GPUs, whichever they are, or which: UUIDs and indices. */
  readonly gpus: number | readonly string[];
  /** Who may use them: whoever is a member by one of these. */
  readonly members: readonly Members[];
  /**
   * When it is open, in order and with gaps between them: all of the near future, and of what is further off as much
   * as decisions can depend on. The scheduler fills them in; the settings have none.
   */
  readonly spans: readonly Span[];
}

/** One of the settings: it opens by the calendar. */
export interface ReservedWindow extends KeptWindow {
  /** When it opens: a node-cron expression, read by the clock of a time zone. Only the scheduler reads calendars. */
  readonly schedule: string;
  readonly timeZone: string;
  /** Elapsed time. */
  readonly durationMs: number;
}

/** Only leases whose request allows it are preempted. */
export interface PreemptionPolicy {
  /** How many levels a lease's priority must be below that of the request, waiting time left out: at least 1. */
  readonly minPriorityGap: number;
  /** How long the client of a lease has to leave by itself. */
  readonly graceMs: number;
  /** A lease younger than this is left alone. */
  readonly minRuntimeMs: number;
}

/** What one account, a principal or a service, may have. `null`: no limit. */
export interface Quota {
  /** GPUs leased and offered at once. */
  readonly maxGpus: number | null;
  readonly maxQueued: number | null;
  /** Requests that ask for more get this. */
  readonly maxPriority: number | null;
  /** Reserved GPU-time per period. */
  readonly gpuTime: GpuTimeQuota | null;
}

export interface GpuTimeQuota {
  /** GPU-milliseconds: two GPUs for a second are 2,000. */
  readonly limitMs: number;
  readonly periodMs: number;
}

/** Who used less lately is served earlier. */
export interface FairShare {
  /** What was used counts half after so long. */
  readonly halfLifeMs: number;
  /** By how much a request is put off whose principal alone has used anything. */
  readonly maxDelayMs: number;
}

/** The quotas of those that are named, and of all others. */
export interface Quotas {
  readonly principals: { readonly [name: string]: Quota };
  readonly services: { readonly [name: string]: Quota };
  readonly defaultPrincipal: Quota;
  readonly defaultService: Quota;
}

export interface SharingPolicy {
  /** Of a GPU's memory, what shared leases together leave: the larger of the two. */
  readonly headroomPercent: number;
  readonly headroomMib: number;
  readonly maxLeasesPerGpu: number;
  /** Memory that has stood still for so long has settled. */
  readonly settleAfterMs: number;
  /** A lease that has not settled by then is no longer waited for. */
  readonly settleTimeoutMs: number;
}

/** MiB by GPU: its UUID, or a part of its model's name in any case. Of several parts the longest counts. */
export type MemoryByGpu = { readonly [gpu: string]: number };

/** The settings that decisions depend on. Replaced whole on a reload. */
export interface Policy {
  /** Models that the settings add to the analyzer's catalogue. */
  readonly models: OwnModels;
  readonly workloadDefaults: { readonly [type in WorkloadType]: WorkloadDefaults };
  readonly maxQueueSize: number;
  /** A request gains one level of priority for each such span of waiting. */
  readonly agingIntervalMs: number;
  readonly reserveAfterMs: number;
  /** So long a head whose start is not certain lets others pass, counted from when it became the head. */
  readonly patienceMs: number;
  /** No head waits for a lease without a stated end that has lasted longer: nothing is kept idle until it ends. */
  readonly endlessAfterMs: number;
  /** Among equals that state no end, the widest request that fits goes first. */
  readonly preferWide: boolean;
  /**
   * Whether GPUs are held for a head only when, after its patience, as much time has passed as the longest lease so far
   * lasted (patience.ts, 2). Left out, as in what was recorded before there was this setting: once its patience is over.
   */
  readonly holdLate?: boolean;
  readonly queueTimeoutMs: number | null;
  readonly abandonAfterMs: number;
  readonly claimTimeoutMs: number;
  readonly defaultTtlMs: number | null;
  /** Of requests that state none; `null`: no hard end. */
  readonly defaultMaxDurationMs: number | null;
  readonly defaultTtlMultiplier: number;
  readonly verifyRelease: "when_used" | "always" | "never";
  readonly reclaimTimeoutMs: number;
  /** A lease without a TTL whose GPUs have been seen unused for so long is idle. */
  readonly idleAfterMs: number;
  /** One that stays unused for so long after it was found idle ends; `null`: idle leases stay. */
  readonly reclaimIdleAfterMs: number | null;
  /** How leases are taken back for more urgent requests; `null`: never. */
  readonly preemption: PreemptionPolicy | null;
  readonly refreshIntervalMs: number;
  /** Whether a GPU that works, and is due for a reset or a replacement, gets no new lease, or is only taken last. */
  readonly degradedGpus: "exclude" | "avoid";
  /** The size of GPUs whose driver does not tell it; left out: none is known. */
  readonly memoryMib?: MemoryByGpu;
  /** What is in use on GPUs that nobody uses; left out: nothing. */
  readonly idleMemoryMib?: MemoryByGpu;
  /** A GPU whose reading is older than this is unknown. */
  readonly staleAfterMs: number;
  /** What to do about processes of no lease beside keeping their GPU from leases: nothing, tell, or let it be leased to them. */
  readonly foreignUse: "exclude" | "notify" | "adopt";
  /** So many readings in a row make it worth telling. */
  readonly foreignUseReadings: number;
  /** Whom to tell by a webhook; `null`: nobody. */
  readonly foreignUseWebhookUrl: string | null;
  /** At most {@link MAX_WINDOWS}. */
  readonly windows: readonly ReservedWindow[];
  readonly quotas: Quotas;
  readonly sharing: SharingPolicy;
  /** `null`: what was used lately does not count. */
  readonly fairShare: FairShare | null;
}
