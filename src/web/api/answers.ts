/** What the page reads of the API's answers: see `/openapi.json`, which tests hold the daemon to. */

export type GpuState =
  | "free"
  | "leased"
  | "reclaiming"
  | "quarantined"
  | "cordoned"
  | "lost"
  | "unhealthy"
  | "unknown"
  | "recovering"
  | "degraded"
  | "mig"
  | "occupied";

export interface Holder {
  readonly allocation_id: string;
  readonly service_name: string;
  readonly since: string;
  readonly in_use_since: string | null;
  readonly idle_since: string | null;
  readonly leave_by: string | null;
  readonly sharing: "exclusive" | "shared";
  readonly memory_mb: number | null;
  readonly over_memory_since: string | null;
}

export interface GpuProcess {
  readonly pid: number;
  readonly name: string | null;
  readonly user: string | null;
  readonly allocation_id: string | null;
  readonly used_memory: number | null;
}

export interface Cordon {
  readonly reason: string;
  readonly by: string;
  readonly since: string;
  readonly drain_by: string | null;
}

/** What a GPU and a MIG instance have in common. */
export interface Device {
  readonly memory_total: number | null;
  readonly memory_used: number | null;
  readonly state: GpuState;
  readonly reason: string | null;
  readonly since: string | null;
  readonly ailment: { readonly state: string; readonly reason: string; readonly since: string | null } | null;
  readonly cordon: Cordon | null;
  readonly drained: boolean;
  readonly processes: readonly GpuProcess[];
  readonly holders: readonly Holder[];
}

export interface MigDevice extends Device {
  readonly uuid: string | null;
  readonly index: number | null;
  readonly profile: string | null;
  readonly gpu_instance_id: number;
  readonly compute_instance_id: number;
}

/** The figures that each reading brings anew; `null`: the driver gives none. */
export interface Figures {
  readonly memory_used: number | null;
  readonly utilization: number | null;
  readonly temperature: number | null;
  readonly power_draw: number | null;
}

export interface Gpu extends Device, Figures {
  readonly id: number | null;
  readonly uuid: string;
  readonly name: string;
  readonly pci_bus_id: string | null;
  readonly power_limit: number | null;
  readonly memory_used: number | null;
  readonly health: Readonly<Record<string, string | number | boolean | null>> | null;
  readonly xid_errors: readonly {
    readonly xid: number;
    readonly meaning: string | null;
    readonly count: number;
    readonly last_seen: string;
  }[];
  readonly mig_mode: string | null;
  readonly mig_devices: readonly MigDevice[];
  readonly numa_nodes: readonly number[] | null;
  readonly cpu_affinity: string | null;
  readonly links: Readonly<Record<string, string>> | null;
  readonly shared: {
    readonly reserved_mb: number;
    readonly free_mb: number | null;
    readonly leaving: readonly { readonly allocation_id: string; readonly since: string; readonly memory_mb: number }[];
  } | null;
}

export interface Eta {
  readonly earliest: string;
  readonly latest: string;
}

export interface GpuReason {
  readonly id: number | null;
  readonly uuid: string;
  readonly reason: string | null;
}

/** An offer or a lease, as the list has it. */
export interface Lease {
  readonly id: string;
  readonly status: "offered" | "leased";
  readonly service_name: string;
  readonly workload_type: string;
  readonly priority: number;
  readonly sharing: "exclusive" | "shared";
  readonly preemptible: boolean;
  readonly adopted?: true;
  readonly gpu_ids?: readonly number[];
  readonly gpu_uuids?: readonly string[];
  readonly devices?: readonly { readonly index: number | null; readonly uuid: string; readonly mig: unknown }[];
  readonly memory_mb?: number;
  readonly min_memory_mb: number;
  readonly ttl_seconds: number | null;
  readonly max_duration_seconds: number | null;
  readonly allocated_at?: string;
  readonly expires_at?: string | null;
  readonly claim_by?: string;
  readonly idle_since?: string;
  readonly over_memory_since?: string;
  readonly ailing_gpus?: readonly { readonly uuid: string; readonly state: string; readonly reason: string }[];
  readonly notice?: { readonly leave_by: string; readonly reason: string; readonly detail: string };
}

export interface Waiting {
  readonly id: string;
  readonly service_name: string;
  readonly required_gpus: number;
  readonly min_memory_mb: number;
  readonly priority: number;
  readonly position: number;
  readonly submitted_at: string;
  readonly reason: string;
  readonly eta: Eta | null;
}

export interface HostDrain extends Cordon {
  readonly drained: boolean;
  readonly allocations: readonly string[];
}

export interface List {
  /** The last event that this answer has in it. */
  readonly last_event_id: number;
  readonly gpus: readonly Gpu[];
  readonly simulated: boolean;
  readonly drain: HostDrain | null;
  readonly allocations: readonly Lease[];
  readonly queue: readonly Waiting[];
}

export type Role = "read" | "allocate" | "run" | "admin";

export interface Me {
  readonly principal: string;
  readonly role: Role;
  /** Whether keys are asked for at all. */
  readonly keyed: boolean;
  readonly version: string;
  /** What is the caller's own: its leases, offers and waiting requests. */
  readonly allocations: readonly string[];
}

export interface Monitor {
  readonly healthy: boolean;
  readonly last_reading_at: string | null;
  readonly failure: { readonly kind: string; readonly message: string } | null;
  readonly warnings: readonly string[];
}

/** One message `reading` of the stream. */
export interface Reading {
  readonly at: string;
  readonly driver_version: string | null;
  readonly cuda_version: string | null;
  readonly storage_healthy: boolean;
  readonly monitor: Monitor;
  readonly gpus: readonly (Figures & Pick<Gpu, "uuid" | "state" | "reason" | "since">)[];
}

export interface Plan {
  readonly outcome: "granted" | "queued" | "refused";
  readonly code: string | null;
  readonly reason: string | null;
  readonly required_gpus: number;
  readonly min_memory_mb: number;
  readonly priority: number;
  readonly gpu_ids: readonly number[] | null;
  readonly gpu_uuids: readonly string[] | null;
  readonly position: number | null;
  readonly eta: Eta | null;
  readonly gpus: readonly GpuReason[];
}

/** What an allocate is answered: granted, or waiting. */
export interface Allocated {
  readonly id: string;
  readonly status: "allocated" | "queued";
  readonly gpu_ids?: readonly number[];
  readonly env?: Readonly<Record<string, string>>;
  readonly expires_at?: string;
  readonly position?: number;
  readonly reason?: string;
}

export interface Amount {
  readonly leases: number;
  readonly reserved_gpu_hours: number;
  readonly used_gpu_hours: number;
}

export interface Usage {
  readonly from: string;
  readonly to: string;
  readonly total: Amount;
  readonly services: readonly (Amount & { readonly name: string })[];
  readonly principals: readonly (Amount & { readonly name: string })[];
}

export interface Delivery {
  readonly id: string;
  readonly allocation_id: string | null;
  readonly status: string;
  readonly url: string;
  readonly state: "pending" | "delivered" | "gave-up" | "withdrawn";
  readonly attempts: number;
  readonly created_at: string;
  readonly next_attempt_at: string | null;
  readonly http_status: number | null;
  readonly error: string | null;
}

interface Counted {
  readonly limit: number;
  readonly used: number;
}

export interface Quota {
  readonly kind: "principal" | "service";
  readonly name: string;
  readonly gpus: Counted | null;
  readonly queued: Counted | null;
  readonly max_priority: number | null;
  readonly gpu_hours: {
    readonly limit: number;
    readonly used: number | null;
    readonly period_seconds: number;
    readonly renews_at: string;
  } | null;
}

export interface Window {
  readonly name: string;
  readonly schedule: string;
  readonly time_zone: string;
  readonly duration_seconds: number;
  readonly gpus: number | null;
  readonly gpu_uuids: readonly string[] | null;
  readonly open: boolean;
  readonly for: readonly {
    readonly services: readonly string[];
    readonly principals: readonly string[];
    readonly workload_types: readonly string[];
  }[];
  readonly occurrences: readonly { readonly from: string; readonly to: string }[];
}

/** What a GPU was, from then until the next span of the same GPU. */
export interface Span {
  readonly from: string;
  readonly to: string;
  readonly state: GpuState;
  readonly services: readonly string[];
  readonly idle: boolean;
}

export interface History {
  readonly from: string;
  readonly to: string;
  readonly gpus: readonly { readonly uuid: string; readonly spans: readonly Span[] }[];
}
