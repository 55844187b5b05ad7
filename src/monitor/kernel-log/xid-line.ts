/**
 * The lines in which NVIDIA's drivers tell of errors. They have no specification; these forms were seen:
 *
 *   NVRM: Xid (0000:03:00): 13, 0003 00000000 ...                                  drivers before 300
 *   NVRM: Xid (PCI:0000:03:00): 31, Ch 00000010, engmask 00000101, intr 10000000   to about 440
 *   NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
 *   NVRM: Xid (PCI:0000:41:00 GPU-I:05): 13, pid=..., name=..., ...                a MIG instance
 *   NVRM: Xid (PCI:0000:9b:00): 145, RLW_REMAP Fatal XC0 i0 Link 08 (...)          NVLink 5
 *   NVRM: Xid (PCI:0000:53:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (...)  the same, in columns
 *   NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)
 *   NVRM: GPU 0000:03:00.0: RmInitAdapter failed! (0x22:0x56:894)
 *   nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up
 *
 * The name in them is a program's, chosen by any local user. What the driver itself says is told from it by its place:
 * behind a name nothing but the last part of the line is looked at, and before one nothing but the first.
 */

import { pciDevice } from "../../core/base/pci-address.ts";
import type { XidError } from "../../core/readings/xid.ts";

export interface XidLine extends XidError {
  /** As `pciDevice` writes it. */
  readonly device: string;
}

const ADDRESS = "([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2})";
const XID = new RegExp(
  `^NVRM:\\s+Xid\\s*\\(\\s*(?:PCI:)?${ADDRESS}(?:\\.\\d)?(?: GPU-I:[^()]{1,32})?\\s*\\):\\s*(\\d{1,3})\\s*(?:,|$)`,
  "i",
);
const FALLEN_XID = 79;
/** A GPU that is gone when the driver first looks for it, and one that goes while it is used, beside its Xid or without. */
const FALLEN = [
  new RegExp(`^NVRM:\\s+The NVIDIA GPU ${ADDRESS}\\.\\d\\b.*\\bfallen off the bus`, "i"),
  new RegExp(`^NVRM:\\s+GPU(?: at)? (?:PCI:)?${ADDRESS}(?:\\.\\d)?:? (?:GPU )?has fallen off the bus`, "i"),
] as const;
const INIT_FAILED = new RegExp(`^NVRM:\\s+GPU (?:PCI:)?${ADDRESS}(?:\\.\\d)?: RmInitAdapter failed\\b`, "i");
const SXID = new RegExp(
  `^nvidia-nvswitch\\d{1,3}: SXid \\((?:PCI:)?${ADDRESS}(?:\\.\\d)?\\):\\s*(\\d{1,6})\\s*,\\s*(Fatal|Non-?fatal)\\b`,
  "i",
);
const NVLINK_FATAL = /^\w{1,32}\s+Fatal\b/;
const ACTION = /^GPU recovery action changed from 0x[0-9a-f]{1,4} \([^()]{0,64}\) to 0x([0-9a-f]{1,4})\b/;
const NAMES_PROGRAM = /^(?:pid|name)=/;
const LOADING = /^NVRM:\s+loading NVIDIA UNIX .*Kernel Module/;
/** The driver found no GPU that it can drive, and takes its leave. */
const NONE_LOADED =
  /^NVRM:\s+(?:None of the NVIDIA .* were initialized|No NVIDIA .*(?:devices|adapters?) (?:probed|found))/;

export function parseXidLine(text: string): XidLine | null {
  const found = XID.exec(text);
  if (found === null) {
    const fallen = fallenAt(text);
    return fallen === null ? null : { device: fallen, xid: FALLEN_XID, fatal: false, action: null };
  }
  const device = pciDevice(found[1] as string);
  if (device === null) return null;
  const xid = Number(found[2]);
  const words = driversWords(text.slice(found[0].length).trim());
  const isNvlink = xid >= 144 && xid <= 150;
  const action = xid === 154 ? ACTION.exec(words) : null;
  return {
    device,
    xid,
    fatal: isNvlink && NVLINK_FATAL.test(words),
    action: action === null ? null : Number.parseInt(action[1] as string, 16),
  };
}

/** What the driver says apart from whose program it was. */
function driversWords(rest: string): string {
  const comma = NAMES_PROGRAM.test(rest) ? rest.lastIndexOf(",") : -1;
  return rest.slice(comma + 1).trimStart();
}

function fallenAt(text: string): string | null {
  for (const pattern of FALLEN) {
    const found = pattern.exec(text);
    if (found !== null) return pciDevice(found[1] as string);
  }
  return null;
}

/** Whether the line is about a GPU that was gone when the driver was loaded: see {@link isDriverLoading}. */
export function isFoundFallen(text: string): boolean {
  return FALLEN[0].test(text);
}

/** The GPU that the driver could not bring to work; `null`: the line does not say that. */
export function initFailedAt(text: string): string | null {
  const found = INIT_FAILED.exec(text);
  return found === null ? null : pciDevice(found[1] as string);
}

/** A fatal error of an NVSwitch; `null`: the line does not tell of one. */
export function parseSwitchFault(text: string): { readonly device: string; readonly sxid: number } | null {
  const found = SXID.exec(text);
  if (found === null || (found[3] as string).toLowerCase() !== "fatal") return null;
  const device = pciDevice(found[1] as string);
  return device === null ? null : { device, sxid: Number(found[2]) };
}

/**
 * Whether the driver tells that it was loaded: every GPU begins anew then. It looks for its GPUs first and says so
 * afterwards, so a GPU that it did not find just before is not well for that.
 */
export function isDriverLoading(text: string): boolean {
  return LOADING.test(text);
}

/** Whether the driver tells that it was not loaded, for want of GPUs. */
export function isLoadGivenUp(text: string): boolean {
  return NONE_LOADED.test(text);
}
