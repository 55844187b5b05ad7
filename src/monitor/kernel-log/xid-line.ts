/**
 * The lines in which NVIDIA's driver tells of errors. They have no specification; these forms were seen:
 *
 *   NVRM: Xid (0000:03:00): 13, 0003 00000000 ...                                  drivers before 300
 *   NVRM: Xid (PCI:0000:03:00): 31, Ch 00000010, engmask 00000101, intr 10000000   to about 440
 *   NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
 *   NVRM: Xid (PCI:0000:41:00 GPU-I:05): 13, pid=..., name=..., ...                a MIG instance
 *   NVRM: Xid (PCI:0000:9b:00): 145, RLW_REMAP Fatal XC0 i0 Link 08 (...)          NVLink 5
 *   NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)
 *
 * The name in them is a program's, chosen by any local user: what stands behind the number is only looked at where the
 * driver puts no name.
 */

import { pciDevice } from "../../core/base/pci-address.ts";
import type { XidError } from "../../core/readings/xid.ts";

export interface XidLine extends XidError {
  /** As `pciDevice` writes it. */
  readonly device: string;
}

const XID =
  /^NVRM: Xid \((?:PCI:)?([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2})(?:\.\d)?(?: GPU-I:[^()]{1,32})?\): (\d{1,3})(?:, |$)/i;
/** A GPU that is gone when the driver first looks for it has no Xid of its own. */
const FALLEN = /^NVRM: The NVIDIA GPU ([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2})\.\d\b.*\bfallen off the bus/i;
const FALLEN_XID = 79;
const NVLINK_FATAL = /^\w{1,32} Fatal\b/;
const ACTION = /^GPU recovery action changed from 0x[0-9a-f]{1,4} \([^()]{0,64}\) to 0x([0-9a-f]{1,4})\b/;
const LOADING = /^NVRM: loading NVIDIA UNIX .*Kernel Module/;

export function parseXidLine(text: string): XidLine | null {
  const found = XID.exec(text);
  if (found === null) {
    const fallen = FALLEN.exec(text);
    return fallen === null ? null : lineOf(fallen[1] as string, FALLEN_XID, false, null);
  }
  const xid = Number(found[2]);
  const rest = text.slice(found[0].length);
  const isNvlink = xid >= 144 && xid <= 150;
  const action = xid === 154 ? ACTION.exec(rest) : null;
  return lineOf(
    found[1] as string,
    xid,
    isNvlink && NVLINK_FATAL.test(rest),
    action === null ? null : Number.parseInt(action[1] as string, 16),
  );
}

function lineOf(address: string, xid: number, fatal: boolean, action: number | null): XidLine | null {
  const device = pciDevice(address);
  return device === null ? null : { device, xid, fatal, action };
}

/** Whether the driver tells that it was loaded: every GPU begins anew then. */
export function isDriverLoading(text: string): boolean {
  return LOADING.test(text);
}
