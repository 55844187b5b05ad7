import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { GpuReading } from "../../../src/core/model/reading.ts";
import { ailmentsOf, isFault } from "../../../src/core/readings/health.ts";
import { parseNvidiaSmi, parseNvidiaSmiInTurns, type SmiDocument } from "../../../src/monitor/nvidia-smi/parse.ts";
import { captures, type Expected, expectedOf, hasCaptures, readCapture } from "./captures.ts";

/** The expected figures, in our words. `slowdown` is not among them. */
function gpusOf(expected: Expected): unknown[] {
  const yes = (word: string | null) => (word === null ? null : word === "Yes");
  const repeated = repeatedUuids(expected);
  return expected.gpus.map((gpu) => ({
    uuid: repeated.has(gpu.uuid) ? gpu.pci_bus_id : gpu.uuid,
    index: gpu.index,
    minorNumber: gpu.minor_number,
    name: gpu.product_name,
    serial: gpu.serial,
    // In excerpts without the pci block the attribute still says it.
    pciBusId: gpu.pci_bus_id ?? gpu.id_attribute,
    memoryTotalMib: gpu.memory_total_mib,
    memoryUsedMib: gpu.memory_used_mib,
    memoryFreeMib: gpu.memory_free_mib,
    utilizationPercent: gpu.utilization_gpu_percent,
    temperatureC: gpu.temperature_c,
    powerDrawW: gpu.power_draw_w,
    powerLimitW: gpu.power_limit_w,
    computeMode: gpu.compute_mode,
    persistenceMode: gpu.persistence_mode,
    migMode: gpu.mig_mode_current,
    migInstances: gpu.mig_instances.map((instance) => ({
      index: instance.index,
      // Another call tells these two.
      uuid: null,
      profile: null,
      gpuInstanceId: instance.gpu_instance_id,
      computeInstanceId: instance.compute_instance_id,
      memoryTotalMib: instance.memory_total_mib,
      memoryUsedMib: instance.memory_used_mib,
      multiprocessorCount: instance.multiprocessor_count,
    })),
    processes: gpu.processes.map((process) => ({
      pid: process.pid,
      type: process.type,
      name: process.name,
      usedMemoryMib: process.used_memory_mib,
      gpuInstanceId: process.gpu_instance_id,
      computeInstanceId: process.compute_instance_id,
      origin: null,
    })),
    health: {
      eccUncorrectedVolatile: gpu.ecc_uncorrected_volatile,
      eccUncorrectedAggregate: gpu.ecc_uncorrected_aggregate,
      retiredPagesPending: yes(gpu.retired_pages.pending),
      remappedRowsPending: yes(gpu.remapped_rows.pending),
      remappedRowsFailure: yes(gpu.remapped_rows.failure),
      // The expected files keep "N/A" here as the driver's word; for us it is no reading.
      recoveryAction: gpu.gpu_recovery_action === "N/A" ? null : gpu.gpu_recovery_action,
      fabricState: gpu.fabric_state,
      fabricStatus: gpu.fabric_status,
    },
    errorValues: gpu.error_values,
  }));
}

/** One capture was anonymised with the same UUID twice; such GPUs go by their PCI address. */
function repeatedUuids(expected: Expected): Set<string> {
  const uuids = expected.gpus.map((gpu) => gpu.uuid);
  return new Set(uuids.filter((uuid, index) => uuids.indexOf(uuid) !== index));
}

/** The fields that the independent reader reads; those beyond are tested one by one below. */
function asExpected({ memoryReservedMib: _, ...gpu }: GpuReading): unknown {
  const { health } = gpu;
  return {
    ...gpu,
    health: {
      eccUncorrectedVolatile: health.eccUncorrectedVolatile,
      eccUncorrectedAggregate: health.eccUncorrectedAggregate,
      retiredPagesPending: health.retiredPagesPending,
      remappedRowsPending: health.remappedRowsPending,
      remappedRowsFailure: health.remappedRowsFailure,
      recoveryAction: health.recoveryAction,
      fabricState: health.fabricState,
      fabricStatus: health.fabricStatus,
    },
  };
}

function documentOf(output: Uint8Array): SmiDocument {
  const result = parseNvidiaSmi(output);
  if (!result.ok) throw new Error(result.error.message);
  return result.document;
}

describe.skipIf(!hasCaptures)("captured output", () => {
  test.each(captures)("$name is read as the independent reader reads it", ({ name, path }) => {
    const expected = expectedOf(name);
    const { timestamp, attachedGpus, reading } = documentOf(readFileSync(path));

    expect({ timestamp, attachedGpus }).toEqual({
      timestamp: expected.timestamp,
      attachedGpus: expected.attached_gpus,
    });
    expect(reading).toMatchObject({
      simulated: false,
      driverVersion: expected.driver_version,
      cudaVersion: expected.cuda_version,
    });
    expect(reading.warnings).toHaveLength(repeatedUuids(expected).size * 2);
    expect(reading.gpus.map(asExpected)).toEqual(gpusOf(expected));
  });

  test("there are captures to read", () => {
    expect(captures.length).toBeGreaterThanOrEqual(62);
  });

  test.each(["k8sinfra-hw-h100x8-580", "derived-nonutf8-ff", "k8sinfra-mock-gb200-lost"])(
    "%s read in turns is the same",
    async (name) => {
      expect(await parseNvidiaSmiInTurns(readCapture(name))).toEqual(parseNvidiaSmi(readCapture(name)));
    },
  );

  test("slowdown is told by new drivers and old ones, and is no reading where no driver tells", () => {
    const slowdowns = (name: string) => documentOf(readCapture(name)).reading.gpus.map((gpu) => gpu.health.slowdown);
    expect(slowdowns("k8sinfra-hw-h100x8-580")).toEqual(Array(8).fill(false));
    expect(slowdowns("farm-t4-470")).toEqual([false]);
    expect(slowdowns("lampaa-gt730")).toEqual([null]);
    expect(slowdowns("derived-h100-mig-processes")).toEqual([null]);
  });

  const healthOf = (name: string, index = 0) => {
    const gpu = documentOf(readCapture(name)).reading.gpus[index] as GpuReading;
    return { ...gpu.health, memoryReservedMib: gpu.memoryReservedMib };
  };

  test("error counters, repairs and the fabric of a new driver on a new GPU", () => {
    expect(healthOf("k8sinfra-hw-h100x8-580")).toMatchObject({
      memoryReservedMib: 480,
      eccMode: "Enabled",
      eccCorrectedVolatile: 0,
      eccCorrectedAggregate: 0,
      sramThresholdExceeded: false,
      repairPending: false,
      retiredPages: null,
      remappedRowsCorrectable: 0,
      remappedRowsUncorrectable: 0,
      fabricHealth: null,
    });
    expect(healthOf("k8sinfra-hw-gb200x4-580").fabricHealth).toBe("Healthy");
    expect(healthOf("k8sinfra-mock-gb200-fabric-degraded", 1).fabricHealth).toBe("Unhealthy");
    expect(healthOf("k8sinfra-mock-gb200-ecc")).toMatchObject({ remappedRowsUncorrectable: 1, retiredPages: 0 });
    expect(healthOf("derived-a100-remap-pending")).toMatchObject({ remappedRowsPending: true });
  });

  test("the same of old drivers and old GPUs; what they do not tell is no reading", () => {
    expect(healthOf("farm-t4-470")).toMatchObject({
      memoryReservedMib: null,
      eccMode: "Enabled",
      eccCorrectedVolatile: 0,
      sramThresholdExceeded: null,
      repairPending: null,
      retiredPages: 0,
      remappedRowsCorrectable: null,
      fabricHealth: null,
    });
    expect(healthOf("datakit-v100-460")).toMatchObject({
      eccMode: "Enabled",
      eccCorrectedAggregate: 0,
      retiredPages: 0,
    });
    expect(healthOf("lampaa-gt730")).toMatchObject({ eccMode: null, eccCorrectedVolatile: null, retiredPages: null });
  });

  test("of all captures, only those that show a fault keep a GPU from leases for its health", () => {
    const faulty = captures.flatMap(({ name, path }) => {
      const result = parseNvidiaSmi(readFileSync(path));
      const gpus = result.ok ? result.document.reading.gpus : [];
      return gpus.flatMap((gpu) =>
        ailmentsOf(gpu, new Map())
          .filter(isFault)
          .map(({ block }) => `${name} ${gpu.index} ${block}`),
      );
    });
    expect(faulty.sort()).toEqual([
      "derived-a100-remap-pending 0 unhealthy",
      "derived-compute-mode-mixed6 2 unhealthy",
      "k8sinfra-mock-gb200-ecc 0 unhealthy",
      "k8sinfra-mock-gb200-fabric-degraded 1 isolated",
      "k8sinfra-mock-gb200-lost 0 unhealthy",
      "k8sinfra-mock-gb200-lost 1 lost",
      // An excerpt without memory figures.
      "pai-gt730-excerpt 0 unknown",
    ]);
  });
});

test.runIf(!hasCaptures)("without the captures beside the repository only self-made documents are read", () => {
  expect(captures).toEqual([]);
});
