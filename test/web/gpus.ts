/** GPUs and leases as the API shows them, for tests of the page. */
import type { Gpu, Holder, Lease, List, Waiting } from "../../src/web/api/answers.ts";

export function gpu(id: number, over: Partial<Gpu> = {}): Gpu {
  return {
    id,
    uuid: `GPU-${id}`,
    name: "NVIDIA H100 80GB HBM3",
    pci_bus_id: null,
    memory_total: 81_559,
    memory_source: "driver",
    proposed_idle_memory_mb: null,
    memory_reserved: null,
    memory_used: 0,
    memory_free: 81_559,
    utilization: 0,
    temperature: 30,
    power_draw: 70,
    power_limit: 700,
    last_updated: null,
    allocated: false,
    allocated_to: null,
    state: "free",
    reason: null,
    since: null,
    ailment: null,
    cordon: null,
    drained: false,
    processes: [],
    holders: [],
    health: null,
    xid_errors: [],
    mig_mode: null,
    mig_devices: [],
    numa_nodes: null,
    cpu_affinity: null,
    links: null,
    shared: null,
    ...over,
  };
}

export function holder(service: string): Holder {
  return {
    allocation_id: `${service}-1`,
    service_name: service,
    since: "2026-11-30T10:00:00.000Z",
    expires_at: null,
    in_use_since: null,
    idle_since: null,
    leave_by: null,
    sharing: "exclusive",
    memory_mb: null,
    settled: null,
    over_memory_since: null,
  };
}

export function lease(service: string, over: Partial<Lease> = {}): Lease {
  return {
    id: `${service}-1`,
    request_id: `${service}-1`,
    status: "leased",
    service_name: service,
    workload_type: "training",
    priority: 5,
    required_gpus: 1,
    max_utilization: 90,
    submitted_at: "2026-11-30T10:00:00.000Z",
    sharing: "exclusive",
    preemptible: false,
    min_memory_mb: 4_096,
    ttl_seconds: null,
    max_duration_seconds: null,
    ...over,
  };
}

export function waiting(service: string, reason = "waiting for 1 GPU"): Waiting {
  return {
    id: `${service}-1`,
    service_name: service,
    required_gpus: 1,
    min_memory_mb: 4_096,
    priority: 5,
    position: 1,
    submitted_at: "2026-11-30T10:00:00.000Z",
    deadline: null,
    reason,
    eta: null,
  };
}

export function list(over: Partial<List> = {}): List {
  return { last_event_id: 0, gpus: [], simulated: false, drain: null, allocations: [], queue: [], ...over };
}
