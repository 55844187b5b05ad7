/**
 * What the fields of `nvidia-smi -q -x` mean. The format has no specification: it was learned from real output of
 * drivers 352 to 595 and from the DTDs that `nvidia-smi --dtd` prints. Elements are looked for where any driver puts
 * them; the DTD's name is no promise.
 */
import { setImmediate } from "node:timers/promises";
import type { GpuHealth, GpuProcess, GpuReading, HostReading, MigInstance } from "../../core/model/reading.ts";
import { type ParseError, sliceDocument, treeOf, UnreadableDocument } from "./document.ts";
import {
  anyOf,
  celsiusAt,
  elementAt,
  elementsAt,
  elementsNamed,
  errorValues,
  integerAt,
  isNoReading,
  mibAt,
  nameAt,
  percentAt,
  textAt,
  wattsAt,
  wordAt,
} from "./fields.ts";
import type { Tree } from "./plain-tree.ts";
import { oneLine } from "./text.ts";

const NAMELESS = "unknown GPU";
const NAMELESS_PROCESS = "processes/process_info/pid";

export interface SmiDocument {
  /** As printed, in the host's local time, such as `Fri Aug 21 08:54:01 2026`; `null` when absent. */
  readonly timestamp: string | null;
  /** What the driver counts; may be more than it shows, so it proves nothing. */
  readonly attachedGpus: number | null;
  readonly reading: HostReading;
}

export type ParseResult =
  | { readonly ok: true; readonly document: SmiDocument }
  | { readonly ok: false; readonly error: ParseError };

/** Reads the last complete document of `output`. Never throws, whatever the bytes. */
export function parseNvidiaSmi(output: Uint8Array | string): ParseResult {
  return outcome(() => {
    const steps = parseSteps(output);
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
    }
  });
}

/** The same, letting other work run in between, several times per GPU. Never rejects. */
export async function parseNvidiaSmiInTurns(output: Uint8Array | string): Promise<ParseResult> {
  const steps = parseSteps(output);
  for (;;) {
    const turn = outcome(() => steps.next());
    if (isFailure(turn)) return turn;
    if (turn.done) return turn.value;
    await setImmediate();
  }
}

type Failure = Extract<ParseResult, { ok: false }>;

function isFailure(value: Failure | IteratorResult<void, ParseResult>): value is Failure {
  return "ok" in value;
}

function outcome<T>(read: () => T): T | Failure {
  try {
    return read();
  } catch (error) {
    if (error instanceof UnreadableDocument) {
      return { ok: false, error: { kind: error.kind, message: error.message } };
    }
    throw error;
  }
}

/** Yields after each piece of work. @throws {UnreadableDocument} */
function* parseSteps(output: Uint8Array | string): Generator<void, ParseResult> {
  const slices = sliceDocument(output);
  yield;
  const host = treeOf(slices.host, "the document's head");
  if (elementsNamed(host, "process_info").length > 0) {
    throw new UnreadableDocument("malformed", "a process stands outside of all GPUs");
  }
  yield;
  const warnings: string[] = [];
  const gpus: IdentifiedBy[] = [];
  for (const [index, slice] of slices.gpus.entries()) {
    const tree = treeOf(slice.xml, `GPU ${index}`);
    // Before the first is compiled, either half takes milliseconds.
    yield;
    gpus.push(readGpu(tree, index, slice.id, warnings));
    yield;
  }
  const reading: HostReading = {
    simulated: false,
    driverVersion: textAt(host, "driver_version"),
    cudaVersion: textAt(host, "cuda_version"),
    gpus: identified(gpus, warnings),
    // Another call tells it.
    topology: null,
    warnings,
  };
  const document = { timestamp: textAt(host, "timestamp"), attachedGpus: integerAt(host, "attached_gpus"), reading };
  return { ok: true, document };
}

/** A GPU's reading, and the UUID it claims; `null`: none. */
interface IdentifiedBy {
  readonly claimedUuid: string | null;
  readonly reading: Omit<GpuReading, "uuid">;
}

/**
 * Gives each GPU its name: its UUID where it has one of its own, else its PCI address.
 *
 * @throws {UnreadableDocument} when a GPU has neither: it could be any.
 */
function identified(gpus: readonly IdentifiedBy[], warnings: string[]): GpuReading[] {
  const claims = new Map<string, number>();
  for (const { claimedUuid } of gpus) {
    if (claimedUuid !== null) claims.set(claimedUuid, (claims.get(claimedUuid) ?? 0) + 1);
  }
  const taken = new Set<string>();
  return gpus.map(({ claimedUuid, reading }) => {
    const unique = claimedUuid !== null && claims.get(claimedUuid) === 1;
    const uuid = unique ? claimedUuid : reading.pciBusId;
    if (uuid === null || taken.has(uuid)) {
      throw new UnreadableDocument("no-identity", `GPU ${reading.index} has no UUID or PCI address of its own`);
    }
    taken.add(uuid);
    if (!unique) {
      const why = claimedUuid === null ? "has no UUID" : `shares the UUID ${claimedUuid} with another`;
      warnings.push(oneLine(`GPU ${reading.index} ${why}; it is known by its PCI address ${uuid}`));
    }
    return { uuid, ...reading };
  });
}

/** @param id the `id` attribute: the PCI address once more, and in excerpts the only one. */
function readGpu(gpu: Tree, index: number, id: string | null, warnings: string[]): IdentifiedBy {
  const named = elementsNamed(gpu, "process_info");
  const reading = {
    index,
    minorNumber: integerAt(gpu, "minor_number"),
    name: textAt(gpu, "product_name") ?? NAMELESS,
    serial: textAt(gpu, "serial"),
    pciBusId: textAt(gpu, "pci/pci_bus_id") ?? (id === null ? null : textAt({ id }, "id")),
    memoryTotalMib: mibAt(gpu, "fb_memory_usage/total"),
    memoryReservedMib: mibAt(gpu, "fb_memory_usage/reserved"),
    memoryUsedMib: mibAt(gpu, "fb_memory_usage/used"),
    memoryFreeMib: mibAt(gpu, "fb_memory_usage/free"),
    utilizationPercent: percentAt(gpu, "utilization/gpu_util"),
    temperatureC: celsiusAt(gpu, "temperature/gpu_temp"),
    powerDrawW: powerDraw(gpu),
    powerLimitW: powerLimit(gpu),
    computeMode: textAt(gpu, "compute_mode"),
    persistenceMode: textAt(gpu, "persistence_mode"),
    migMode: textAt(gpu, "mig_mode/current_mig"),
    migInstances: readMigInstances(gpu, index, warnings),
    processes: readProcesses(named, index),
    health: readHealth(gpu),
    errorValues: { ...errorValues(gpu), ...namelessProcesses(named) },
  };
  return { claimedUuid: textAt(gpu, "uuid"), reading };
}

/** `power_readings` to driver 525, `gpu_power_readings` since; from 570 on only an average and the instant. */
function powerDraw(gpu: Tree): number | null {
  return (
    wattsAt(gpu, "power_readings/power_draw") ??
    wattsAt(gpu, "gpu_power_readings/power_draw") ??
    wattsAt(gpu, "gpu_power_readings/instant_power_draw")
  );
}

function powerLimit(gpu: Tree): number | null {
  return (
    wattsAt(gpu, "power_readings/power_limit") ??
    wattsAt(gpu, "gpu_power_readings/power_limit") ??
    wattsAt(gpu, "gpu_power_readings/current_power_limit")
  );
}

function readMigInstances(gpu: Tree, gpuIndex: number, warnings: string[]): MigInstance[] {
  const instances: MigInstance[] = [];
  for (const device of elementsAt(gpu, "mig_devices/mig_device")) {
    const index = integerAt(device, "index");
    const gpuInstanceId = integerAt(device, "gpu_instance_id");
    const computeInstanceId = integerAt(device, "compute_instance_id");
    if (index === null || gpuInstanceId === null || computeInstanceId === null) {
      warnings.push(`GPU ${gpuIndex} has a MIG instance without its ids; it is left out`);
      continue;
    }
    instances.push({
      index,
      // Another call tells these two.
      uuid: null,
      profile: null,
      gpuInstanceId,
      computeInstanceId,
      memoryTotalMib: mibAt(device, "fb_memory_usage/total"),
      memoryUsedMib: mibAt(device, "fb_memory_usage/used"),
      multiprocessorCount: integerAt(device, "device_attributes/shared/multiprocessor_count"),
    });
  }
  return instances;
}

/**
 * They stand in `processes`; in drivers before 340 in `compute_processes`, without a type. No other list is known, but
 * a process that stood elsewhere would still use the GPU, so the place is not asked.
 */
function readProcesses(named: readonly Tree[], gpuIndex: number): GpuProcess[] {
  return named.flatMap((process) => {
    const pid = integerAt(process, "pid");
    // To leave one out would show a busy GPU as free; see namelessProcesses.
    if (elementsNamed(process, "process_info").length > 0) {
      throw new UnreadableDocument("malformed", `GPU ${gpuIndex} has a process inside a process`);
    }
    if (pid === null && isNoReading(wordAt(process, "pid") ?? "")) return [];
    if (pid === null) throw new UnreadableDocument("malformed", `GPU ${gpuIndex} has a process without a pid`);
    return {
      pid,
      type: textAt(process, "type"),
      name: nameAt(process, "process_name"),
      usedMemoryMib: mibAt(process, "used_memory"),
      gpuInstanceId: integerAt(process, "gpu_instance_id"),
      computeInstanceId: integerAt(process, "compute_instance_id"),
      // The driver does not tell; see process-table.ts.
      origin: null,
    };
  });
}

/** Processes without a pid: their GPU is used by somebody, and by whom cannot be told. The rest of the document stands. */
function namelessProcesses(named: readonly Tree[]): GpuReading["errorValues"] {
  const words = named.filter((process) => integerAt(process, "pid") === null);
  return words.length === 0 ? {} : { [NAMELESS_PROCESS]: wordAt(words[0] as Tree, "pid") ?? "" };
}

function readHealth(gpu: Tree): GpuHealth {
  return {
    eccMode: textAt(gpu, "ecc_mode/current_ecc"),
    eccCorrectedVolatile: sumAt(gpu, "ecc_errors/volatile", CORRECTABLE),
    eccCorrectedAggregate: sumAt(gpu, "ecc_errors/aggregate", CORRECTABLE),
    eccUncorrectedVolatile: sumAt(gpu, "ecc_errors/volatile", UNCORRECTABLE),
    eccUncorrectedAggregate: sumAt(gpu, "ecc_errors/aggregate", UNCORRECTABLE),
    sramThresholdExceeded: yesOrNo(gpu, "ecc_errors/aggregate/sram_threshold_exceeded"),
    repairPending: yesOrNo(gpu, "ecc_errors/channel_repair_pending", "ecc_errors/tpc_repair_pending"),
    retiredPages: sumAt(gpu, "retired_pages", RETIRED),
    // `pending_blacklist` since 430; `pending_retirement` in all.
    retiredPagesPending: yesOrNo(gpu, "retired_pages/pending_retirement", "retired_pages/pending_blacklist"),
    remappedRowsCorrectable: integerAt(gpu, "remapped_rows/remapped_row_corr"),
    remappedRowsUncorrectable: integerAt(gpu, "remapped_rows/remapped_row_unc"),
    remappedRowsPending: yesOrNo(gpu, "remapped_rows/remapped_row_pending"),
    remappedRowsFailure: yesOrNo(gpu, "remapped_rows/remapped_row_failure"),
    unrepairableMemory: yesOrNo(gpu, "ecc_errors/unrepairable_memory", "unrepairable_memory"),
    recoveryAction: recoveryAction(gpu),
    fabricState: textAt(gpu, "fabric/state"),
    fabricStatus: textAt(gpu, "fabric/status"),
    fabricHealth: fabricHealth(gpu),
    slowdown: slowdown(gpu),
    license: textAt(gpu, "vgpu_software_licensed_product/license_status"),
  };
}

function yesOrNo(gpu: Tree, ...paths: string[]): boolean | null {
  return anyOf(
    paths.map((path) => wordAt(gpu, path)),
    "Yes",
    "No",
  );
}

/** In the words of drivers since 570; those of 535 to 565 say the same in two flags. */
function recoveryAction(gpu: Tree): string | null {
  const action = textAt(gpu, "gpu_recovery_action");
  if (action !== null) return action;
  if (wordAt(gpu, "gpu_reset_status/reset_required") === "Yes") return "Reset";
  return wordAt(gpu, "gpu_reset_status/drain_and_reset_recommended") === "Yes" ? "Drain and Reset" : null;
}

/** A summary since driver 575; those before it list what may be wrong, of which a broken route tells. */
function fabricHealth(gpu: Tree): string | null {
  const summary = textAt(gpu, "fabric/health/summary");
  if (summary !== null) return summary;
  return wordAt(gpu, "fabric/health/route_unhealthy") === "True" ? "Unhealthy" : null;
}

/** Counters of corrected errors: the first on GPUs before Turing, the others since. */
const CORRECTABLE = ["single_bit/total", "dram_correctable", "sram_correctable"] as const;
const RETIRED = ["multiple_single_bit_retirement/retired_count", "double_bit_retirement/retired_count"] as const;
/** Counters of uncorrectable errors, likewise. */
const UNCORRECTABLE = [
  "double_bit/total",
  "dram_uncorrectable",
  "sram_uncorrectable",
  "sram_uncorrectable_parity",
  "sram_uncorrectable_secded",
] as const;

/** The sum of those that are numbers; `null` when none is. */
function sumAt(gpu: Tree, path: string, tags: readonly string[]): number | null {
  const block = elementAt(gpu, path);
  if (block === undefined) return null;
  const counts = tags.map((tag) => integerAt(block, tag)).filter((count) => count !== null);
  return counts.length === 0 ? null : counts.reduce((sum, count) => sum + count, 0);
}

/** Heat or the power brake. A software power cap is everyday business and not among them. */
const SLOWDOWNS = ["hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown"] as const;
/** The first since driver 535, the second before. */
const REASONS = ["clocks_event_reasons/clocks_event_reason", "clocks_throttle_reasons/clocks_throttle_reason"] as const;

function slowdown(gpu: Tree): boolean | null {
  const paths = REASONS.flatMap((reason) => SLOWDOWNS.map((which) => `${reason}_${which}`));
  return anyOf(
    paths.map((path) => wordAt(gpu, path)),
    "Active",
    "Not Active",
  );
}
