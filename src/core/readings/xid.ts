/**
 * What the driver's Xid errors mean for leases.
 *
 * Source: NVIDIA's Xid catalogue (https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html), whose
 * immediate action decides: an error that is mostly the program's own fault keeps no GPU from anybody; one after which
 * the GPU must be reset does, until it has been.
 */
import type { EpochMs } from "../base/time.ts";

/** `answered`: the driver says that nothing is wanted of anybody any more. */
export type XidEffect = "exclude" | "isolate" | "note" | "answered";

export interface XidError {
  readonly xid: number;
  /** Of an NVLink 5 error: whether it calls itself fatal. */
  readonly fatal: boolean;
  /** Of error 154: what must be done now, as a number of NVML's `nvmlDeviceGpuRecoveryAction_t`; `null`: not told. */
  readonly action: number | null;
}

interface Entry {
  readonly meaning: string;
  readonly effect: XidEffect;
}

const entry = (meaning: string, effect: XidEffect = "note"): Entry => ({ meaning, effect });

const NVLINK_5 = entry("NVLink error");

const CATALOGUE: ReadonlyMap<number, Entry> = new Map([
  [13, entry("exception in a program's work")],
  [31, entry("a program's access to memory that it does not have")],
  [43, entry("a program's work was stopped")],
  [45, entry("a program's work was cleaned up after an error")],
  [46, entry("the GPU stopped processing", "exclude")],
  [48, entry("double-bit memory error", "exclude")],
  [62, entry("its power management unit has halted", "exclude")],
  [63, entry("bad memory will be taken out of use at the next reset")],
  [64, entry("bad memory could not be taken out of use", "exclude")],
  [69, entry("exception in a program's graphics work")],
  [74, entry("NVLink error", "isolate")],
  [79, entry("the GPU has fallen off the bus", "exclude")],
  [92, entry("many corrected memory errors")],
  [94, entry("memory error that hit one program only")],
  [95, entry("memory error that may have hit several programs", "exclude")],
  [109, entry("switching between programs timed out", "exclude")],
  [110, entry("security fault", "exclude")],
  [119, entry("its system processor does not answer", "exclude")],
  [120, entry("error in its system processor", "exclude")],
  [136, entry("link training failed", "exclude")],
  [140, entry("memory error that was not corrected", "exclude")],
  [143, entry("initialisation failed", "exclude")],
  ...[144, 145, 146, 147, 148, 149, 150].map((xid): [number, Entry] => [xid, NVLINK_5]),
  [154, entry("what must be done about the GPU has changed")],
  [155, entry("error in the software of NVLink", "exclude")],
  [156, entry("resources could not be taken out of use", "exclude")],
]);

const NO_ACTION = 0;

const DRAIN_P2P = 3;

/** In a few words; the number alone for one that is not in the catalogue. */
export function meaningOf(xid: number): string | null {
  return CATALOGUE.get(xid)?.meaning ?? null;
}

export function effectOf({ xid, fatal, action }: XidError): XidEffect {
  if (xid === 154) {
    if (action === null) return "note";
    if (action === NO_ACTION) return "answered";
    return action === DRAIN_P2P ? "isolate" : "exclude";
  }
  const known = CATALOGUE.get(xid);
  if (known === NVLINK_5) return fatal ? "exclude" : "note";
  return known?.effect ?? "note";
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

export type KernelReport = XidReport | { readonly kind: "driver-loaded"; readonly sequence: number };

/** What was read since the last time. */
export interface KernelNews {
  readonly reports: readonly KernelReport[];
  /** Why the log cannot be read; `null`: it can. */
  readonly problem: string | null;
  /** How often records were overwritten before they could be read, since the start. */
  readonly missed: number;
}
