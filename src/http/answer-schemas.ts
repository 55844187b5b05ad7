/**
 * What the API answers. Only types of this module are used where answers are made; the schemas themselves are for
 * the OpenAPI document, which a test holds against real answers.
 */
import { z } from "zod";
import { BLOCKS } from "../core/allocator/survey.ts";
import { END_REASONS, SHARINGS, WORKLOAD_TYPES } from "../core/model.ts";
import { DELIVERY_STATES, NOTIFICATION_STATUSES } from "../scheduler/ports.ts";

export const instant = z.iso.datetime().meta({ description: "RFC 3339, in UTC" });
export const mib = z.number().nullable().meta({ description: "MiB; null: no reading" });
const figure = z.number().nullable().meta({ description: "null: no reading" });
const words = z.string().nullable();
const numaNodes = z.array(z.int()).nullable();
const cpuAffinity = words.meta({ example: "0-31,64-95" });

const idleSince = z.iso.datetime().meta({
  description:
    "The lease has no TTL, and none of its GPUs has been used since then, for allocator.idle_after or longer",
});

const leaveBy = z.iso.datetime().meta({ description: "The lease ends then if it has not left" });

const cordonFields = {
  reason: z.string(),
  by: z.string(),
  since: instant,
  drain_by: instant.nullable().meta({ description: "Leases still there then end; null: they end by themselves" }),
};
const overMemorySince = z.iso.datetime().meta({
  description: "A shared lease that has been seen since then to use more memory than is reserved for it",
});

export const gpuState = z
  .enum([
    "free",
    "leased",
    "reclaiming",
    "quarantined",
    "cordoned",
    "lost",
    "unhealthy",
    "unknown",
    "recovering",
    "degraded",
    "mig",
    "occupied",
  ])
  .meta({ id: "GpuState", description: "Only a free GPU is granted" });

/** What can be wrong with a GPU that is held. */
const gpuAilment = z
  .enum([...gpuState.options, "isolated"])
  .meta({ id: "GpuAilment", description: "isolated: it cannot work together with others" });

const gpuHealth = z.object({
  ecc_mode: words,
  ecc_corrected_volatile: figure.meta({ description: "Since the driver was loaded; null: no reading" }),
  ecc_corrected_aggregate: figure.meta({ description: "Over the GPU's life; null: no reading" }),
  ecc_uncorrected_volatile: figure,
  ecc_uncorrected_aggregate: figure,
  sram_threshold_exceeded: z.boolean().nullable(),
  repair_pending: z
    .boolean()
    .nullable()
    .meta({ description: "A memory channel or cluster is repaired at the next reset" }),
  retired_pages: figure,
  retired_pages_pending: z.boolean().nullable(),
  remapped_rows_correctable: figure,
  remapped_rows_uncorrectable: figure,
  remapped_rows_pending: z.boolean().nullable(),
  remapped_rows_failure: z.boolean().nullable(),
  recovery_action: words,
  fabric_state: words,
  fabric_status: words,
  fabric_health: words,
  slowdown: z.boolean().nullable().meta({ description: "The driver slows the clocks for heat or by the power brake" }),
});

const gpuProcess = z.object({
  pid: z.int(),
  type: words,
  name: words.meta({ description: "Chosen by a local user: control characters are shown as \\u{...}" }),
  user: words.meta({ description: "Whose it is; null: the pid means nothing to the daemon" }),
  allocation_id: words.meta({
    description: "The lease that it belongs to, by its descent from workload_data.pid or by its control group",
  }),
  used_memory: mib,
});

const holder = z.object({
  allocation_id: z.string(),
  service_name: z.string(),
  since: instant,
  in_use_since: instant.nullable().meta({ description: "null: not in use, by the latest reading that could tell" }),
  idle_since: idleSince.nullable().meta({ description: "null: the lease is not flagged as idle" }),
  leave_by: leaveBy.nullable().meta({ description: "When it is taken back; null: it is not" }),
  sharing: z.enum(SHARINGS),
  memory_mb: z.number().nullable().meta({ description: "MiB that are reserved for a shared lease" }),
  settled: z.boolean().nullable().meta({
    description: "Of a shared lease: false while its memory is waited for to stand still, and nobody else starts",
  }),
  over_memory_since: overMemorySince.nullable(),
});

const ailmentOfHeld = z
  .object({ state: gpuAilment, reason: z.string(), since: instant.nullable() })
  .nullable()
  .meta({ description: "What is wrong with a GPU that is held, and would keep it from being granted" });

const cordon = z
  .object(cordonFields)
  .nullable()
  .meta({ description: "An admin's word that there be no new leases on this GPU; that of the host stands beside" });

const drained = z.boolean().meta({
  description: "No new leases here, by its own cordon or another, and nothing of those that were here is left",
});

const migDevice = z
  .object({
    index: z
      .int()
      .nullable()
      .meta({ description: "Its number on its GPU, as `nvidia-smi -L` prints it; null: it is gone" }),
    uuid: words.meta({ description: "What CUDA_VISIBLE_DEVICES takes; null: not known, and so it is not granted" }),
    profile: words.meta({ example: "1g.10gb" }),
    gpu_instance_id: z.int(),
    compute_instance_id: z.int(),
    memory_total: mib.meta({
      description: "MiB of its GPU instance, whose compute instances share it; null: no reading",
    }),
    memory_used: mib.meta({ description: "MiB, without what other compute instances of its GPU instance use" }),
    allocated: z.boolean(),
    allocated_to: words.meta({ description: "The service that holds it" }),
    allocated_at: instant.optional(),
    state: gpuState,
    reason: words.meta({ description: "Why it is in this state" }),
    since: instant.nullable(),
    ailment: ailmentOfHeld,
    cordon,
    drained,
    processes: z.array(gpuProcess),
    holders: z.array(holder),
  })
  .meta({ id: "MigDevice", description: "A MIG instance: a device of its own, with its GPU's health" });
export type MigDeviceAnswer = z.output<typeof migDevice>;

export const gpuSchema = z
  .object({
    id: z.int().meta({ description: "The index of nvidia-smi; it may change at a reboot" }),
    uuid: z.string().meta({ description: "What names the GPU for good" }),
    name: z.string(),
    pci_bus_id: words,
    memory_total: mib,
    memory_reserved: mib.meta({ description: "MiB that the driver keeps for itself; null: no reading" }),
    memory_used: mib,
    memory_free: mib,
    utilization: figure.meta({ description: "Percent; null: no reading" }),
    temperature: figure.meta({ description: "Celsius; null: no reading" }),
    power_draw: figure.meta({ description: "Watts; null: no reading" }),
    power_limit: figure.meta({ description: "Watts; null: no reading" }),
    last_updated: instant.nullable().meta({ description: "When the figures were read; null: never since the start" }),
    allocated: z.boolean().meta({ description: "The GPU, a part of it, or a MIG instance of it" }),
    allocated_to: words.meta({
      description: "The service that holds it, or those that share it; of a GPU with MIG on, all that hold instances",
    }),
    allocated_at: instant.optional(),
    state: gpuState,
    reason: words.meta({ description: "Why it is in this state" }),
    since: instant.nullable(),
    ailment: ailmentOfHeld,
    cordon,
    drained,
    health: gpuHealth.nullable(),
    xid_errors: z
      .array(
        z.object({
          xid: z.int(),
          meaning: words.meta({ description: "null: not in NVIDIA's catalogue as known here" }),
          count: z.int().meta({ description: "As far back as the kernel's log goes, this boot at most" }),
          last_seen: instant,
        }),
      )
      .meta({ description: "By number. Those that keep the GPU from leases show in its state" }),
    mig_mode: words,
    mig_devices: z.array(migDevice).meta({ description: "What it is cut into, in the order of their ids" }),
    numa_nodes: numaNodes.meta({ description: "The NUMA nodes that it is next to; null: not known" }),
    cpu_affinity: cpuAffinity.meta({
      description: "The CPUs that it is next to, as a Linux CPU list; null: not known",
    }),
    links: z
      .record(z.string(), z.string())
      .nullable()
      .meta({
        description:
          "How it is connected to the others, by UUID, in the words of `nvidia-smi topo -m`: NV18 (18 NVLinks), PIX, " +
          "PXB, PHB, NODE, SYS. null: not known",
      }),
    processes: z.array(gpuProcess),
    holders: z.array(holder).meta({ description: "Of the whole GPU; see also mig_devices" }),
    shared: z
      .object({
        reserved_mb: z.number().meta({ description: "MiB, those of leases that have ended and are not gone included" }),
        free_mb: mib.meta({ description: "MiB that one more shared lease could have, were it to start now" }),
        leaving: z
          .array(z.object({ allocation_id: z.string(), since: instant, memory_mb: z.number() }))
          .meta({ description: "Leases that have ended, and have not been seen to be gone" }),
      })
      .nullable()
      .meta({ description: "null: nobody shares it now" }),
  })
  .meta({ id: "Gpu" });
export type GpuAnswer = z.output<typeof gpuSchema>;

export const hostDrainSchema = z
  .object({
    drain: z
      .object({
        ...cordonFields,
        drained: z.boolean().meta({ description: "No GPU holds a lease, or anything that an ended one left" }),
        allocations: z.array(z.string()).meta({ description: "The leases and offers that are still there" }),
      })
      .nullable()
      .meta({ description: "An admin's word that no GPU of the host gets new leases; null: they do" }),
  })
  .meta({ id: "HostDrain" });
export type HostDrainAnswer = z.output<typeof hostDrainSchema>;

const monitor = z.object({
  healthy: z.boolean(),
  last_reading_at: instant.nullable(),
  last_probe_at: instant.nullable(),
  failure: z.object({ kind: z.string(), message: z.string() }).nullable(),
  warnings: z.array(z.string()),
  processes_hidden: z.boolean().meta({
    description:
      "The daemon does not share the host's pids, so processes of others may be missing from the lists: memory and " +
      "utilisation alone tell that a GPU is in use",
  }),
  kernel_log: z
    .object({ readable: z.boolean(), problem: words, overruns: z.int() })
    .nullable()
    .meta({ description: "Where Xid errors are read; null: it is not watched. overruns: how often records were lost" }),
});

export const statusSchema = z
  .object({
    gpus: z.array(gpuSchema),
    simulated: z.boolean(),
    driver_version: words,
    cuda_version: words,
    ...hostDrainSchema.shape,
    monitor,
  })
  .meta({ id: "Status" });
export type StatusAnswer = z.output<typeof statusSchema>;

export const requestFields = {
  id: z.string(),
  request_id: z.string().meta({ description: "The same as id" }),
  service_name: z.string(),
  workload_type: z.enum(WORKLOAD_TYPES),
  priority: z.int(),
  required_gpus: z.int(),
  min_memory_mb: z.number(),
  max_utilization: z.number(),
  sharing: z.enum(SHARINGS),
  preemptible: z.boolean(),
  ttl_seconds: z.number().nullable(),
  max_duration_seconds: z.number().nullable(),
  adopted: z
    .literal(true)
    .optional()
    .meta({ description: "Nobody asked: an admin made a lease of somebody's use of a GPU. Left out otherwise" }),
  adopted_by: z.string().optional(),
  adoption_reason: z.string().optional(),
  submitted_at: instant,
};

export const migIdentity = z
  .object({ profile: z.string(), parent_uuid: z.string(), gpu_instance_id: z.int(), compute_instance_id: z.int() })
  .nullable()
  .meta({ description: "null: a whole GPU" });

const leaseFields = {
  allocation_id: z.string().meta({ description: "The same as id" }),
  gpu_ids: z.array(z.int()).meta({ description: "The indices of nvidia-smi; of a MIG instance, its GPU's" }),
  gpu_uuids: z.array(z.string()),
  devices: z.array(
    z.object({
      index: z.int().meta({ description: "Of a MIG instance: its GPU's" }),
      uuid: z.string(),
      name: z.string(),
      pci_bus_id: words,
      memory_total: mib,
      mig: migIdentity,
      numa_nodes: numaNodes.meta({ description: "As it was at the grant; null: not known" }),
      cpu_affinity: cpuAffinity.meta({ description: "As it was at the grant; null: not known" }),
    }),
  ),
  env: z.object({
    CUDA_VISIBLE_DEVICES: z.string().meta({
      description: "By UUID. Of several MIG instances each process must take one: CUDA shows it no more than one",
    }),
    CUDA_DEVICE_ORDER: z.literal("PCI_BUS_ID"),
    GPU_ORCHESTRATOR_GPU_INDICES: z
      .string()
      .optional()
      .meta({ description: "Left out for MIG instances: CUDA has no index for them" }),
    GPU_ORCHESTRATOR_MEMORY_MB: z
      .string()
      .optional()
      .meta({ description: "Of a shared lease: the MiB of each GPU that it has reserved" }),
  }),
  allocated_at: instant,
  expires_at: instant.optional().meta({ description: "Left out when there is no end" }),
  fencing_token: z.int(),
  memory_mb: z.number().meta({ description: "MiB that each GPU was checked to have" }),
  numa_nodes: numaNodes.meta({
    description: "The NUMA nodes that its GPUs are next to, as it was at the grant; null unless known of each",
  }),
  cpu_affinity: cpuAffinity.meta({
    description:
      "The CPUs that its GPUs are next to, to pin to: what `taskset -c` takes. null unless known of each GPU",
  }),
};

export const grantedSchema = z
  .object({ status: z.literal("allocated"), ...requestFields, ...leaseFields })
  .meta({ id: "Granted" });

const eta = z
  .object({
    earliest: instant.meta({ description: "If leases are as short as the short ones of late" }),
    latest: instant.meta({ description: "If all leases last as long as they may, and nobody more urgent comes" }),
  })
  .nullable()
  .meta({
    id: "Eta",
    description:
      "When it can expect to be granted. null: no such end is certain, since leases without a max_duration are in the " +
      "way, it waits for a GPU to get well, or too many are before it",
  });

const passReason = z.enum([
  ...BLOCKS,
  "memory",
  "kind",
  "model",
  "utilization",
  "isolated",
  "reserved",
  "quota",
  "settling",
  "crowded",
  "window",
]);
const gpuReasons = z.array(z.object({ id: z.int().nullable(), uuid: z.string(), reason: passReason.nullable() }));

export const queuedSchema = z
  .object({
    status: z.literal("queued"),
    id: z.string(),
    request_id: z.string().meta({ description: "The same as id" }),
    position: z.int().meta({ description: "From 1" }),
    submitted_at: instant,
    priority: z.int(),
    reason: z.string(),
    eta,
    gpus: gpuReasons.meta({ description: "Of each GPU why not; null for one that would do" }),
  })
  .meta({ id: "Queued" });
export type QueuedAnswer = z.output<typeof queuedSchema>;

export const recordSchema = z
  .object({
    status: z.enum(["queued", "offered", "leased", "ended"]),
    ...requestFields,
    ...z.object(leaseFields).partial().shape,
    idle_since: idleSince.optional(),
    over_memory_since: overMemorySince.optional(),
    ailing_gpus: z
      .array(z.object({ uuid: z.string(), state: gpuAilment, reason: z.string(), since: instant.nullable() }))
      .optional()
      .meta({ description: "Of the GPUs held: those that are lost, sick or recovering. The lease goes on" }),
    notice: z
      .object({
        leave_by: leaveBy,
        reason: z.enum(["preempted", "drained"]).meta({ description: "What becomes of it if it has not left by then" }),
        detail: z.string(),
      })
      .optional()
      .meta({ description: "It is to be taken back, and renewals do not help: expires_at is no later than leave_by" }),
    preempting_since: instant.optional().meta({ description: "Leases are being preempted for this request" }),
    claim_by: instant.optional().meta({ description: "An offer that its client has not taken by then ends" }),
    position: z.int().optional(),
    reason: z.string().optional().meta({ description: "Why it waits" }),
    eta: eta.optional(),
    gpus: gpuReasons
      .optional()
      .meta({ description: "While it waits: of each GPU why not; null for one that would do" }),
    ended_at: instant.optional(),
    end_reason: z.enum(END_REASONS).optional(),
    end_detail: z.string().optional(),
    workload_data: z.record(z.string(), z.unknown()).optional().meta({ description: "For its owner and admins" }),
    webhook_url: z.string().nullable().optional().meta({ description: "For its owner and admins" }),
  })
  .meta({ id: "Allocation", description: "One record for a request's whole life" });

export const recordsSchema = z
  .object({
    allocations: z.array(recordSchema).meta({ description: "Newest first" }),
    next: words.meta({ description: "Give it as `before` for the next page; null: this is the last" }),
  })
  .meta({ id: "AllocationPage" });

export const listSchema = z
  .object({
    gpus: z.array(gpuSchema),
    simulated: z.boolean(),
    ...hostDrainSchema.shape,
    allocations: z.array(recordSchema).meta({ description: "Offered and leased" }),
    queue: z
      .array(
        z.object({
          id: z.string(),
          service_name: z.string(),
          required_gpus: z.int(),
          min_memory_mb: z.number(),
          priority: z.int(),
          position: z.int(),
          submitted_at: instant,
          reason: z.string(),
          eta,
        }),
      )
      .meta({ description: "In serving order" }),
  })
  .meta({ id: "List" });
export type ListAnswer = z.output<typeof listSchema>;

export const windowsSchema = z
  .object({
    now: instant,
    windows: z.array(
      z.object({
        name: z.string(),
        schedule: z.string().meta({ description: "When it opens, as in cron", example: "0 9 * * 1-5" }),
        time_zone: z.string(),
        duration_seconds: z.number(),
        gpus: z.int().nullable().meta({ description: "How many it keeps; null: those in gpu_uuids" }),
        gpu_uuids: z.array(z.string()).nullable().meta({ description: "Those it names, of this host's; null: none" }),
        for: z
          .array(
            z.object({
              services: z.array(z.string()),
              principals: z.array(z.string()),
              workload_types: z.array(z.enum(WORKLOAD_TYPES)),
            }),
          )
          .meta({ description: "Who may use them: whoever is in each list, of one of these, that is not empty" }),
        open: z.boolean(),
        occurrences: z
          .array(z.object({ from: instant, to: instant }))
          .meta({ description: "Of the coming seven days, and the present one" }),
      }),
    ),
  })
  .meta({ id: "Windows" });
export type WindowsAnswer = z.output<typeof windowsSchema>;

export const workloadAnswerSchema = z
  .object({
    workload_type: z.enum(WORKLOAD_TYPES),
    required_gpus: z.int(),
    min_memory_mb: z.number(),
    priority: z.int(),
    max_utilization: z.number(),
    sources: z
      .object({
        required_gpus: z.string(),
        min_memory_mb: z.string(),
        priority: z.string(),
        max_utilization: z.string(),
      })
      .meta({ description: "Which rule or figure gave each number" }),
    notes: z.array(z.string()),
    fits: z.boolean().meta({ description: "Whether this host could ever hold it, whatever is free" }),
    missing: words.meta({ description: "What this host lacks" }),
  })
  .meta({ id: "WorkloadAnalysis" });
export type WorkloadAnswer = z.output<typeof workloadAnswerSchema>;

export const releasedSchema = z
  .object({ status: z.literal("released"), released: z.array(z.string()) })
  .meta({ id: "Released" });

const gpuSeconds = z.number().meta({ description: "Exact to the millisecond: two GPUs for a second are 2" });
const gpuHours = z.number().meta({ description: "The same, rounded to six digits" });

const amount = {
  leases: z.int().meta({ description: "That held something in the period; one that reaches on counts there too" }),
  reserved_gpu_seconds: gpuSeconds,
  used_gpu_seconds: gpuSeconds,
  reserved_gpu_hours: gpuHours,
  used_gpu_hours: gpuHours,
};
const amounts = z.array(z.object({ name: z.string(), ...amount }));

export const usageSchema = z
  .object({
    from: instant,
    to: instant,
    now: instant.meta({ description: "Running leases count up to it" }),
    complete_from: instant.nullable().meta({
      description: "A period that begins earlier may lack leases whose records are gone; null: none was ever dropped",
    }),
    total: z.object(amount),
    services: amounts,
    principals: amounts,
    gpus: z.array(z.object({ uuid: z.string(), ...amount })),
  })
  .meta({
    id: "Usage",
    description:
      "What was reserved, by leases and offers, and what of it was seen in use, by a process that computes or memory above " +
      "the level before the grant. Use is what readings show: between two of them, and while there are none, the last known state counts.",
  });
export type UsageAnswer = z.output<typeof usageSchema>;

const counted = (unit: string) =>
  z
    .object({ limit: z.int(), used: z.int(), left: z.int() })
    .nullable()
    .meta({ description: `${unit}; null: no limit` });

const quotaSchema = z
  .object({
    kind: z.enum(["principal", "service"]),
    name: z.string(),
    gpus: counted("GPUs held at once, by leases and offers"),
    queued: counted("Requests that wait"),
    max_priority: z.int().nullable().meta({ description: "Requests that ask for more get this; null: no limit" }),
    gpu_hours: z
      .object({
        limit: z.number(),
        used: z.number().nullable().meta({
          description:
            "In this period, with what running leases may still take until their max_duration; null: being counted",
        }),
        left: z.number().nullable(),
        period_seconds: z.number(),
        period_from: instant,
        renews_at: instant,
      })
      .nullable()
      .meta({ description: "GPU-hours reserved per period; null: no limit" }),
  })
  .meta({ id: "Quota" });
export type QuotaAnswer = z.output<typeof quotaSchema>;

export const quotasSchema = z.object({ now: instant, accounts: z.array(quotaSchema) }).meta({
  id: "Quotas",
  description: "Of the caller's principal and of all services; an admin sees every principal",
});
export type QuotasAnswer = z.output<typeof quotasSchema>;

export const healthSchema = z.object({ status: z.literal("ok") }).meta({ id: "Health" });

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string().meta({ description: "This very answer; its id is also in X-Request-Id" }),
    code: z.string().meta({ description: "What programs should look at: it does not change" }),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .meta({ id: "Problem", description: "RFC 9457" });

export const gpuRemovedSchema = z.object({ status: z.literal("removed"), uuid: z.string() }).meta({ id: "GpuRemoved" });

export const deliverySchema = z
  .object({
    id: z.string().meta({ description: "The webhook-id that its receiver sees, the same at every attempt" }),
    allocation_id: words.meta({ description: "null: it tells the operator of a GPU" }),
    status: z.enum(NOTIFICATION_STATUSES),
    url: z.string(),
    state: z.enum(DELIVERY_STATES),
    attempts: z.int(),
    created_at: instant,
    last_attempt_at: instant.nullable(),
    next_attempt_at: instant.nullable(),
    settled_at: instant.nullable(),
    http_status: z.int().nullable().meta({ description: "Of the last attempt; null: no answer" }),
    error: words.meta({ description: "Of the last attempt" }),
  })
  .meta({ id: "Delivery" });
export type DeliveryAnswer = z.output<typeof deliverySchema>;

export const deliveriesSchema = z
  .object({ deliveries: z.array(deliverySchema), next: z.string().nullable() })
  .meta({ id: "Deliveries" });

export const planSchema = z
  .object({
    outcome: z.enum(["granted", "queued", "refused"]).meta({ description: "What an allocate would come to now" }),
    code: words.meta({ description: "The problem's code when it would be refused" }),
    reason: words.meta({ description: "Why not now; null when it would be granted" }),
    required_gpus: z.int(),
    min_memory_mb: z.number(),
    priority: z.int(),
    gpu_ids: z.array(z.int()).nullable().meta({ description: "Those that it would be granted" }),
    gpu_uuids: z.array(z.string()).nullable(),
    position: z.int().nullable().meta({ description: "From 1: where it would stand in the queue" }),
    eta,
    gpus: gpuReasons.meta({
      description: "Of each GPU why not; null for one that would do. Empty when it is no matter of now",
    }),
  })
  .meta({ id: "Plan" });
export type PlanAnswer = z.output<typeof planSchema>;
