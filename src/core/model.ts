/**
 * The words of the domain. Everything here is a value: nothing reads a clock, an id source or a device.
 *
 * A *request* is what is asked; an *allocation* is one request's life; a *placement* is chosen GPUs and reserves
 * nothing; a *lease* is a placement held until a time. A GPU is named by its UUID, never by its index.
 */

/** An instant: milliseconds since 1970-01-01T00:00:00Z on the daemon's steady clock. */
export type EpochMs = number;
export type AllocationId = string;
/** NVIDIA's `GPU-...`, or the PCI address when the driver gives no usable UUID. Unique on the host. */
export type GpuUuid = string;

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };
export type JsonObject = { readonly [key: string]: JsonValue };

export const WORKLOAD_TYPES = ["training", "inference", "embedding", "ocr", "graph_processing", "generic"] as const;
export type WorkloadType = (typeof WORKLOAD_TYPES)[number];

/** Which windows a request may use is a bit for each of them. */
export const MAX_WINDOWS = 16;
/** A GPU for one lease alone, or a part of its memory beside others. */
export const SHARINGS = ["exclusive", "shared"] as const;
export type Sharing = (typeof SHARINGS)[number];

export const MIN_PRIORITY = 1;
export const MAX_PRIORITY = 10;

/** Who sends a command. With authentication off, everybody is one principal and an admin. */
export interface Actor {
  readonly principal: string;
  readonly admin: boolean;
}

/** What a workload needs, after the analyzer: every number has its source in {@link Analysis.sources}. */
export interface Requirement {
  /** Whole GPUs, from 1. */
  readonly gpus: number;
  /** MiB that each of them must have. */
  readonly memoryMib: number;
  /** 1 to 10; higher is more urgent. */
  readonly priority: number;
  /** A GPU busier than this, in percent, is passed over. */
  readonly maxUtilizationPercent: number;
  /** True when the caller stated it: only then does a missing utilisation reading exclude a GPU. */
  readonly maxUtilizationExplicit: boolean;
}

/** What a caller asks for, as far as the analyzer is concerned. `null` means not stated. */
export interface WorkloadAsk {
  readonly workloadType: WorkloadType;
  readonly workloadData: JsonObject;
  readonly requiredGpus: number | null;
  readonly minMemoryMib: number | null;
  readonly maxUtilizationPercent: number | null;
  readonly priority: number | null;
}

/** Defaults and thresholds of one workload type; see contract section 5. Sizes and counts are plain numbers. */
export interface WorkloadDefaults {
  readonly defaultGpus: number;
  readonly defaultMemoryMib: number;
  readonly defaultPriority: number;
  readonly maxUtilizationPercent: number;
  readonly largeBatchSize: number;
  readonly xlargeBatchSize: number;
  readonly highConcurrency: number;
  readonly veryHighConcurrency: number;
}

/** The analyzer's answer: the requirement, and where each number of it came from, in words. */
export interface Analysis {
  readonly requirement: Requirement;
  readonly sources: {
    readonly requiredGpus: string;
    readonly minMemoryMib: string;
    readonly priority: string;
    readonly maxUtilization: string;
  };
  /** Further facts worth showing, such as "this figure is a rule of thumb". */
  readonly notes: readonly string[];
}

/** One request as it was accepted. Never changes afterwards. */
export interface Request {
  readonly id: AllocationId;
  readonly serviceName: string;
  /** Who owns it: the principal, not the key it used. */
  readonly principal: string;
  readonly workloadType: WorkloadType;
  readonly workloadData: JsonObject;
  readonly webhookUrl: string | null;
  readonly requirement: Requirement;
  /** UUIDs or indices that are taken first when they fit. A wish, not a condition. */
  readonly preferredGpus: readonly string[];
  /** Case-insensitive substring of the GPU's product name; `null` means any. */
  readonly gpuModel: string | null;
  /** `null`: no end by itself. */
  readonly ttlMs: number | null;
  /** A hard end, whatever is renewed. */
  readonly maxDurationMs: number | null;
  readonly preemptible: boolean;
  readonly queueTimeoutMs: number | null;
  /** Only MIG instances that were cut so, in any case; `null`: one device may be an instance, several are whole GPUs. */
  readonly migProfile: string | null;
  readonly sharing: Sharing;
  /** Its turn is put off by so much, since its principal has used much lately; 0: it is not. */
  readonly fairShareDelayMs: number;
  /** Nobody asked: an admin made a lease of somebody's use of a GPU. Left out of all other requests. */
  readonly adoption?: Adoption;
  readonly submittedAt: EpochMs;
}

export interface Adoption {
  /** The admin's principal. */
  readonly by: string;
  readonly reason: string;
}

/** A GPU as it stood when it was leased: what the client is told stays what it was told. */
export interface LeasedGpu extends GpuLocality {
  readonly index: number;
  readonly name: string;
  readonly pciBusId: string | null;
  readonly memoryTotalMib: number | null;
  /** `null`: a whole GPU. */
  readonly mig: MigIdentity | null;
  /** MiB in use before the grant: the level to which the GPU must return. */
  readonly baselineMib: number;
}

export interface Lease {
  readonly gpus: readonly LeasedGpu[];
  /** One host-wide integer per lease that only grows, over restarts too. */
  readonly fencingToken: number;
  readonly grantedAt: EpochMs;
  /** When it ends unless renewed; the earlier of TTL and hard end. `null`: no end. */
  readonly expiresAt: EpochMs | null;
  /** MiB that it has reserved on each of its GPUs, beside other leases; `null`: it has them alone. */
  readonly sharedMib: number | null;
}

export const END_REASONS = [
  "released",
  "cancelled",
  "expired",
  "max_duration",
  "timed_out",
  "abandoned",
  "unclaimed",
  "revoked",
  "preempted",
  "rebooted",
  "idle",
] as const;
export type EndReason = (typeof END_REASONS)[number];

export interface Outcome {
  readonly reason: EndReason;
  readonly at: EpochMs;
  /** Why, when a person or the daemon gave a reason. */
  readonly detail: string | null;
}

/** A lease is to be taken back: its client has been told at `at`, and may leave by itself until `until`. */
export type Notice =
  | {
      readonly kind: "preempt";
      readonly at: EpochMs;
      readonly until: EpochMs;
      /** The request that gets its GPUs. */
      readonly for: AllocationId;
    }
  | {
      readonly kind: "drain";
      readonly at: EpochMs;
      readonly until: EpochMs;
      /** Why, and who drains. */
      readonly reason: string;
    };

export interface QueuedAllocation {
  readonly status: "queued";
  readonly request: Request;
  /** Since when leases have been preempted for it; `null`: they are not. */
  readonly preemptingSince: EpochMs | null;
  /** Its client last asked for it then, or waits for it until then. Not durable: a restart counts as asking. */
  readonly seenAt: EpochMs;
}
export interface OfferedAllocation {
  readonly status: "offered";
  readonly request: Request;
  readonly lease: Lease;
  /** Unclaimed at this instant, it ends and the next in line is served. */
  readonly claimBy: EpochMs;
  /** `null`: it is not to be taken back. */
  readonly notice: Notice | null;
}
export interface LeasedAllocation {
  readonly status: "leased";
  readonly request: Request;
  readonly lease: Lease;
  /** It has no TTL, and none of its GPUs has been in use since then; `null`: not flagged as idle. */
  readonly idleSince: EpochMs | null;
  /** `null`: it is not to be taken back. */
  readonly notice: Notice | null;
}
export interface EndedAllocation {
  readonly status: "ended";
  readonly request: Request;
  /** What was held, if anything was. */
  readonly lease: Lease | null;
  /** Those of its GPUs on which use was seen. */
  readonly used: readonly UsedGpu[];
  readonly outcome: Outcome;
}
export type HoldingAllocation = OfferedAllocation | LeasedAllocation;
export type LiveAllocation = QueuedAllocation | HoldingAllocation;
export type Allocation = LiveAllocation | EndedAllocation;

/** In use from the first to the second instant; `usedMs` is less than that where short gaps were merged (use.ts). */
export type UseSpan = readonly [from: EpochMs, to: EpochMs, usedMs: number];

/** When a leased GPU was in use: had a process that computes, or memory above the baseline. */
export interface GpuUse {
  /** What is over, oldest first. */
  readonly spans: readonly UseSpan[];
  /** In use since then, by the latest reading that could tell; `null`: not in use. */
  readonly since: EpochMs | null;
}

/** What an ended lease leaves of its use of one GPU. */
export interface UsedGpu {
  readonly uuid: GpuUuid;
  readonly spans: readonly UseSpan[];
}

/** One lease's part of a shared GPU. */
export interface Share {
  readonly allocationId: AllocationId;
  readonly since: EpochMs;
  /** MiB that are reserved for it. */
  readonly memoryMib: number;
  /** When its client could begin to load: the grant, or the claim of an offer. `null`: not claimed yet. */
  readonly startedAt: EpochMs | null;
  /** Its memory has stood still, or was no longer waited for, since then; `null`: it is settling. */
  readonly settledAt: EpochMs | null;
  /** It has been seen to use more than its reservation since then; `null`: it is not. */
  readonly overSince: EpochMs | null;
  /** As seen in readings during the lease. */
  readonly use: GpuUse;
}

/** What may be left on a shared GPU of a lease that has ended: it still counts. */
export interface Remains {
  readonly allocationId: AllocationId;
  /** The end of the lease. */
  readonly since: EpochMs;
  readonly memoryMib: number;
  /** What tells its processes, as long as they last: the pid that its client named, and when. */
  readonly pid: number | null;
  readonly submittedAt: EpochMs;
}

/** What the books say of a GPU, apart from how it feels. */
export type GpuHold =
  | { readonly kind: "free" }
  | {
      readonly kind: "leased";
      readonly allocationId: AllocationId;
      readonly since: EpochMs;
      /** As seen in readings during the lease. */
      readonly use: GpuUse;
    }
  | {
      readonly kind: "shared";
      /** The first grant since it was free. */
      readonly since: EpochMs;
      /** MiB in use before that: the level to which the GPU must return. */
      readonly baselineMib: number;
      /** In the order of their grants; at least one. */
      readonly shares: readonly Share[];
      /** In the order of their ends. */
      readonly remains: readonly Remains[];
      /** Remains did not go in time: no new lease until they have. `null`: nothing is overdue. */
      readonly overdueSince: EpochMs | null;
    }
  | {
      readonly kind: "reclaiming";
      readonly allocationId: AllocationId;
      readonly since: EpochMs;
      readonly baselineMib: number;
    }
  | {
      readonly kind: "quarantined";
      readonly since: EpochMs;
      readonly baselineMib: number;
      readonly reason: string;
    };

/** An admin's word that a GPU, or the whole host, gets no new leases. */
export interface Cordon {
  readonly at: EpochMs;
  /** The admin's principal. */
  readonly by: string;
  readonly reason: string;
  /** Leases that are still there at this instant end; `null`: what runs there runs on. */
  readonly drainBy: EpochMs | null;
}

/** An error after which a GPU must not be used, or not together with others, before it was reset. */
export interface GpuFault {
  readonly at: EpochMs;
  readonly reason: string;
  /** Which requests it keeps away: all, or those of several GPUs. */
  readonly scope: "all" | "several";
  /** Number of the kernel log's record. */
  readonly sequence: number;
}

/**
 * A device that was seen once: a GPU, or an instance of one. A GPU stays in the inventory until an admin removes it; an
 * instance until it has been gone for long (mig.ts).
 */
export interface Gpu {
  readonly uuid: GpuUuid;
  /** Of an instance: its GPU's, as its address. */
  readonly index: number;
  readonly name: string;
  readonly pciBusId: string | null;
  readonly memoryTotalMib: number | null;
  /** `null`: a whole GPU. */
  readonly mig: MigIdentity | null;
  readonly hold: GpuHold;
  readonly cordon: Cordon | null;
  /** What the kernel's log says against it, until it is answered; `null`: nothing. */
  readonly fault: GpuFault | null;
  /** Errors in the kernel's log up to this record, of this boot, have been answered. */
  readonly answeredUpTo: number;
  /** Since when it has been lost: gone from good readings, or so called by the driver. `null`: it is not. */
  readonly lostSince: EpochMs | null;
  /** Since when somebody without a lease has used it, as its operator was told; `null`: was not, or it is over. */
  readonly foreignSince: EpochMs | null;
}

/** Where a process comes from, as the kernel tells it. */
export interface ProcessOrigin {
  /** Login name, or the number when it has none; `null`: not told. */
  readonly user: string | null;
  readonly startedAt: EpochMs;
  /** Its parent, that one's parent and so on, init left out. */
  readonly ancestors: readonly { readonly pid: number; readonly startedAt: EpochMs }[];
  /** Its control group's path; `null` for the root group, or when it is not told. */
  readonly cgroup: string | null;
}

/** One process on a GPU. The name comes from any local user: hostile text wherever it is shown. */
export interface GpuProcess {
  readonly pid: number;
  /** `C`, `G`, `C+G`, `M+C`; `null` in drivers that do not say. */
  readonly type: string | null;
  /** As the driver printed it, padding included; `null` when its bytes were not text. */
  readonly name: string | null;
  readonly usedMemoryMib: number | null;
  readonly gpuInstanceId: number | null;
  readonly computeInstanceId: number | null;
  /** `null`: it is gone, or its pid means nothing here, as in a container without the host's pids. */
  readonly origin: ProcessOrigin | null;
}

/** What a MIG instance is, as a device of its own. */
export interface MigIdentity {
  readonly parentUuid: GpuUuid;
  /** What it was cut as, such as `1g.10gb`; `1c.3g.71gb` is one compute instance of several in such a GPU instance. */
  readonly profile: string;
  readonly gpuInstanceId: number;
  readonly computeInstanceId: number;
}

/** A MIG instance as the driver shows it on its GPU. See mig.ts for what becomes of it. */
export interface MigInstance {
  /** Its number within its GPU; it changes when others are destroyed. */
  readonly index: number;
  /** `null`, both or none: not known now. Such an instance is not granted. */
  readonly uuid: GpuUuid | null;
  readonly profile: string | null;
  readonly gpuInstanceId: number;
  readonly computeInstanceId: number;
  /** Of the whole GPU instance, here and below: its compute instances share it. */
  readonly memoryTotalMib: number | null;
  readonly memoryUsedMib: number | null;
  readonly multiprocessorCount: number | null;
}

/** What the driver says of a GPU's health; `null` is no reading, never "fine". */
export interface GpuHealth {
  /** `Enabled` or `Disabled`. */
  readonly eccMode: string | null;
  /** Memory errors since the driver was loaded (volatile), and over the GPU's life (aggregate). */
  readonly eccCorrectedVolatile: number | null;
  readonly eccCorrectedAggregate: number | null;
  readonly eccUncorrectedVolatile: number | null;
  readonly eccUncorrectedAggregate: number | null;
  /** More uncorrectable SRAM errors than NVIDIA lets pass. */
  readonly sramThresholdExceeded: boolean | null;
  /** A memory channel or a processing cluster is repaired at the next reset. */
  readonly repairPending: boolean | null;
  /** Pages of memory that were taken out of use, before Ampere; rows that were replaced, since. */
  readonly retiredPages: number | null;
  readonly retiredPagesPending: boolean | null;
  readonly remappedRowsCorrectable: number | null;
  readonly remappedRowsUncorrectable: number | null;
  readonly remappedRowsPending: boolean | null;
  readonly remappedRowsFailure: boolean | null;
  /** `None`, `Reset`, `Reboot`, `Drain P2P`, `Drain and Reset`. */
  readonly recoveryAction: string | null;
  /** Of the NVSwitches, where there are any: `Not Started`, `In Progress` or `Completed`. */
  readonly fabricState: string | null;
  /** `Success`, or what went wrong. */
  readonly fabricStatus: string | null;
  /** `Healthy`, `Unhealthy` or `Limited Capacity`. */
  readonly fabricHealth: string | null;
  /** True when the driver slows the clocks for heat or by the power brake. */
  readonly slowdown: boolean | null;
}

/** One GPU in one reading. A figure that the driver does not give is `null`, never 0. */
export interface GpuReading {
  readonly uuid: GpuUuid;
  /** Order of appearance: what `nvidia-smi -i` takes. Not the minor number. */
  readonly index: number;
  readonly minorNumber: number | null;
  readonly name: string;
  readonly serial: string | null;
  readonly pciBusId: string | null;
  readonly memoryTotalMib: number | null;
  /** What the driver keeps for itself; neither used nor free. `null` in drivers that do not tell. */
  readonly memoryReservedMib: number | null;
  readonly memoryUsedMib: number | null;
  readonly memoryFreeMib: number | null;
  readonly utilizationPercent: number | null;
  readonly temperatureC: number | null;
  readonly powerDrawW: number | null;
  readonly powerLimitW: number | null;
  readonly computeMode: string | null;
  readonly persistenceMode: string | null;
  readonly migMode: string | null;
  readonly migInstances: readonly MigInstance[];
  /** Of an instance that was made a reading of its own (mig.ts); left out: a whole GPU. */
  readonly mig?: MigIdentity;
  /** MiB of its memory that others use who share it, and which is not in `memoryUsedMib`; left out: none. */
  readonly othersUseMib?: number;
  readonly processes: readonly GpuProcess[];
  readonly health: GpuHealth;
  /** Field path to the words that stood where a figure should: `GPU is lost`, `Unknown Error`, `ERR!`. */
  readonly errorValues: { readonly [path: string]: string };
}

/**
 * How two GPUs reach each other, in the words of `nvidia-smi topo -m`, from near to far: `NV<n>` by n NVLinks; `PIX` by
 * one PCIe switch, `PXB` by several; `PHB` through a PCIe host bridge; `NODE` between host bridges of a NUMA node; `SYS`
 * between NUMA nodes.
 */
export type GpuLink = `NV${number}` | "PIX" | "PXB" | "PHB" | "NODE" | "SYS";

/** Where a GPU sits in its host. */
export interface GpuLocality {
  readonly uuid: GpuUuid;
  /** Ascending; mostly one. Empty: not known. */
  readonly numaNodes: readonly number[];
  /** The CPUs next to it, as Linux writes them, such as `0-31,64-95`; `null`: not known. */
  readonly cpuAffinity: string | null;
}

/** How the GPUs of a host are connected. */
export interface Topology {
  readonly gpus: readonly GpuLocality[];
  /** By place in `gpus`: symmetric, and `null` only between a GPU and itself. */
  readonly links: readonly (readonly (GpuLink | null)[])[];
}

export interface HostReading {
  readonly simulated: boolean;
  readonly driverVersion: string | null;
  readonly cudaVersion: string | null;
  readonly gpus: readonly GpuReading[];
  /** The lists of processes may lack some: the daemon does not share the host's pids. They lack none when left out. */
  readonly processesHidden?: boolean;
  /** GPUs of which it says nothing, neither that they are well nor that they are gone; none when left out. */
  readonly unread?: readonly GpuUuid[];
  /** Instances that may be there or not (mig.ts): what was read of them before does not hold any more. */
  readonly doubted?: readonly GpuUuid[];
  /** `null`: not known. The same object from one reading to the next while nothing new is known. */
  readonly topology: Topology | null;
  /** Said by the source beside a usable reading, such as a corrupted infoROM. */
  readonly warnings: readonly string[];
}

/** Why a probe gave no reading. */
export type ProbeFailureKind = "missing" | "timeout" | "driver" | "gpu-lost" | "garbled" | "exit" | "no-devices";

export interface ProbeFailure {
  readonly kind: ProbeFailureKind;
  readonly message: string;
  readonly exitCode: number | null;
}

/** What one probe brought back. `startedAt` decides what a reading can prove: it must begin after a lease's end. */
export type Observation =
  | {
      readonly ok: true;
      readonly startedAt: EpochMs;
      readonly finishedAt: EpochMs;
      readonly reading: HostReading;
    }
  | {
      readonly ok: false;
      readonly startedAt: EpochMs;
      readonly finishedAt: EpochMs;
      readonly failure: ProbeFailure;
    };

/** Whose requests a window is for: those that are of one of each list that is not empty. */
export interface Members {
  readonly services: readonly string[];
  readonly principals: readonly string[];
  readonly workloadTypes: readonly WorkloadType[];
}

/** A stretch of time that has its first instant and not its last. */
export interface Span {
  readonly from: EpochMs;
  readonly to: EpochMs;
}

/** GPUs that are kept for some requests while it is open. */
export interface ReservedWindow {
  /** Unique. */
  readonly name: string;
  /** When it opens: a node-cron expression, read by the clock of a time zone. Only the scheduler reads calendars. */
  readonly schedule: string;
  readonly timeZone: string;
  /** Elapsed time. */
  readonly durationMs: number;
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
  /** By how much the turn of somebody is put off who alone has used anything. */
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

/** The settings that decisions depend on. Replaced whole on a reload. */
export interface Policy {
  readonly workloadDefaults: { readonly [type in WorkloadType]: WorkloadDefaults };
  readonly maxQueueSize: number;
  /** A request gains one level of priority for each such span of waiting. */
  readonly agingIntervalMs: number;
  readonly reserveAfterMs: number;
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
