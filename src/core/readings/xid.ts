/**
 * What the driver's errors in the kernel's log mean for leases.
 *
 * Source: NVIDIA's Xid catalogue (https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html, as of
 * November 2026, 1 to 172), whose immediate resolution decides: an error that is mostly the program's own fault keeps no
 * GPU from anybody; one after which the GPU must be reset, or the machine restarted, does until that was done. Those of
 * 162 and above have no resolution there: what is to be done is told by error 154 beside them.
 */
import type { EpochMs } from "../base/time.ts";
import { type RecoveryEffect, recoveryEffect } from "./recovery.ts";

/** `answered`: the driver says that nothing is wanted of anybody any more. */
export type XidEffect = "exclude" | "isolate" | "note" | "answered";

export interface XidError {
  readonly xid: number;
  /** Of an NVLink 5 error: whether it calls itself fatal. */
  readonly fatal: boolean;
  /** Of error 154: what must be done now, as a number of NVML's `nvmlDeviceGpuRecoveryAction_t`; `null`: not told. */
  readonly action: number | null;
}

/** NVIDIA's names for what is to be done at once. Those that begin with WORKFLOW_ lead through several steps. */
type Resolution =
  | "IGNORE"
  | "RESTART_APP"
  | "RESET_GPU"
  | "RESTART_BM"
  | "RESTART_VM"
  | "WORKFLOW_XID_45"
  | "WORKFLOW_XID_48"
  | "WORKFLOW_NVLINK_ERR"
  | "WORKFLOW_NVLINK5_ERR"
  | "CHECK_MECHANICALS"
  | "CHECK_UVM"
  | "XID_154"
  | "NONE";

interface Entry {
  readonly meaning: string;
  readonly resolution: Resolution;
}

/** Those that NVIDIA wants something done about, and those that are seen often. */
const CATALOGUE: ReadonlyMap<number, Entry> = new Map(
  (
    [
      [8, "RESTART_APP", "a program's work was stopped after a timeout"],
      [13, "RESTART_APP", "exception in a program's work"],
      [31, "RESTART_APP", "a program's access to memory that it does not have"],
      [32, "RESTART_APP", "a program's commands were corrupted"],
      [43, "IGNORE", "a program's work was stopped"],
      [45, "WORKFLOW_XID_45", "a program's work was cleaned up after an error"],
      [46, "RESET_GPU", "the GPU stopped processing"],
      [48, "WORKFLOW_XID_48", "double-bit memory error"],
      [54, "CHECK_MECHANICALS", "its own power supply is not connected: its clocks are low"],
      [62, "RESET_GPU", "its power management unit has halted"],
      [63, "IGNORE", "bad memory will be taken out of use at the next reset"],
      [64, "RESET_GPU", "bad memory could not be taken out of use"],
      [68, "RESTART_APP", "error in its video decoder"],
      [69, "RESTART_APP", "exception in a program's graphics work"],
      [74, "WORKFLOW_NVLINK_ERR", "NVLink error"],
      [79, "RESTART_BM", "the GPU has fallen off the bus"],
      [92, "IGNORE", "many corrected memory errors"],
      [94, "RESTART_APP", "memory error that hit one program only"],
      [95, "RESET_GPU", "memory error that may have hit several programs"],
      [109, "RESET_GPU", "switching between programs timed out"],
      [110, "RESET_GPU", "security fault"],
      [119, "RESET_GPU", "its system processor does not answer"],
      [120, "RESET_GPU", "error in its system processor"],
      [136, "RESET_GPU", "link training failed"],
      [137, "IGNORE", "a program's access over NVLink was refused"],
      [140, "RESET_GPU", "memory error that was not corrected"],
      [143, "RESET_GPU", "initialisation failed"],
      ...[144, 145, 146, 147, 148, 149, 150].map((xid) => [xid, "WORKFLOW_NVLINK5_ERR", "NVLink error"] as const),
      [151, "RESTART_VM", "a key could not be renewed"],
      [154, "XID_154", "what must be done about the GPU has changed"],
      [155, "RESET_GPU", "error in the software of NVLink"],
      [156, "RESET_GPU", "resources will be taken out of use at the next reset"],
      [157, "IGNORE", "resources could not be taken out of use"],
      [158, "RESET_GPU", "a timeout that is fatal to the GPU"],
      [159, "CHECK_UVM", "error on the way to the host's memory"],
      [160, "IGNORE", "a channel was taken out of use"],
      [161, "IGNORE", "a channel could not be taken out of use"],
      [167, "NONE", "a timeout on PCI Express that is fatal"],
      [168, "NONE", "it has less memory than it should"],
      [169, "NONE", "its security processor has halted"],
      [171, "NONE", "memory error that was not corrected"],
      [172, "NONE", "error in its caches that was not corrected"],
    ] as const satisfies readonly (readonly [number, Resolution, string])[]
  ).map(([xid, resolution, meaning]) => [xid, { meaning, resolution }]),
);

/** In a few words; the number alone for one that is not in the catalogue. */
export function meaningOf(xid: number): string | null {
  return CATALOGUE.get(xid)?.meaning ?? null;
}

const OF_ACTION: { readonly [effect in RecoveryEffect]: XidEffect } = {
  none: "answered",
  exclude: "exclude",
  isolate: "isolate",
  // The log takes nothing back by itself, so what it asks for must not be missed.
  unknown: "exclude",
};

export function effectOf({ xid, fatal, action }: XidError): XidEffect {
  const resolution = CATALOGUE.get(xid)?.resolution ?? "IGNORE";
  switch (resolution) {
    case "RESET_GPU":
    case "RESTART_BM":
    case "RESTART_VM":
    case "WORKFLOW_XID_48":
    // To be reset where unified memory is in use, and every CUDA program uses it.
    case "CHECK_UVM":
      return "exclude";
    case "WORKFLOW_NVLINK_ERR":
      return "isolate";
    case "WORKFLOW_NVLINK5_ERR":
      return fatal ? "exclude" : "note";
    case "XID_154":
      return action === null ? "note" : OF_ACTION[recoveryEffect(action)];
    case "IGNORE":
    case "RESTART_APP":
    case "WORKFLOW_XID_45":
    case "CHECK_MECHANICALS":
    case "NONE":
      return "note";
    default:
      return resolution satisfies never;
  }
}

/** One kind of Xid error of one GPU, as often as it came. */
export interface XidReport extends XidError {
  readonly kind: "xid";
  /** Of the last record. */
  readonly sequence: number;
  readonly at: EpochMs;
  /** As {@link pciDevice} writes it. */
  readonly device: string;
  readonly count: number;
}

/** The driver could not bring a GPU to work, which has no Xid of its own. */
export interface InitFailureReport {
  readonly kind: "init-failed";
  readonly sequence: number;
  readonly at: EpochMs;
  /** As {@link pciDevice} writes it. */
  readonly device: string;
}

/** An NVSwitch is broken in a way that the driver calls fatal: the GPUs behind it do not reach each other. */
export interface SwitchFaultReport {
  readonly kind: "switch-fault";
  readonly sequence: number;
  /** The switch, as {@link pciDevice} writes it. */
  readonly device: string;
  readonly sxid: number;
}

export interface DriverLoadedReport {
  readonly kind: "driver-loaded";
  /** The last record that the load has made void: faults that it met itself come after it. */
  readonly sequence: number;
}

export type KernelReport = XidReport | InitFailureReport | SwitchFaultReport | DriverLoadedReport;

/** What was read since the last time. */
export interface KernelNews {
  readonly reports: readonly KernelReport[];
  /** Why the log cannot be read; `null`: it can. */
  readonly problem: string | null;
  /** How often records were overwritten before they could be read, since the start. */
  readonly missed: number;
}
