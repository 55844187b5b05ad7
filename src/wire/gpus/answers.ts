import { z } from "zod";
import { SHARINGS } from "../../core/model/allocation.ts";
import {
  cordonFields,
  cpuAffinity,
  figure,
  idleSince,
  instant,
  leaveBy,
  mib,
  numaNodes,
  overMemorySince,
  owner,
  sentences,
  words,
} from "../fields.ts";

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
export const gpuAilment = z
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
  unrepairable_memory: z.boolean().nullable(),
  license: words.meta({ description: "Of a virtual GPU, in the driver's words" }),
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
  principal: owner.optional(),
  since: instant,
  expires_at: instant.nullable().meta({ description: "When it ends unless it is renewed; null: it has no end" }),
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

export const ailmentOfHeld = z
  .object({ state: gpuAilment, reason: z.string(), since: instant.nullable() })
  .nullable()
  .meta({ description: "What is wrong with a GPU that is held, and would keep it from being granted" });

const cordon = z
  .object(cordonFields)
  .nullable()
  .meta({ description: "An admin's word that there be no new leases on this GPU; that of the host stands beside" });

export const drained = z.boolean().meta({
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
    id: z
      .int()
      .nullable()
      .meta({ description: "What `nvidia-smi -i` takes now; it may change at any time. null: it is not counted now" }),
    uuid: z.string().meta({ description: "What names the GPU for good" }),
    name: z.string(),
    pci_bus_id: words,
    memory_total: mib,
    memory_source: z
      .enum(["driver", "settings", "host"])
      .nullable()
      .meta({
        description:
          "Where memory_total is from: the driver; allocator.memory_mb; or the host's own memory, on an integrated GPU. " +
          "null: not known",
      }),
    proposed_idle_memory_mb: mib.meta({
      description:
        "What allocator.idle_memory_mb could say: so much has been in use for a day, by nobody who is seen. null: nothing",
    }),
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

export const gpuWhySchema = z
  .object({
    id: gpuSchema.shape.id,
    uuid: z.string(),
    state: gpuState,
    why: sentences,
  })
  .meta({ id: "GpuWhy" });

export type GpuWhyAnswer = z.output<typeof gpuWhySchema>;

export const gpuRemovedSchema = z.object({ status: z.literal("removed"), uuid: z.string() }).meta({ id: "GpuRemoved" });
