/**
 * One record of the kernel's log, as `/dev/kmsg` gives it (the kernel's Documentation/ABI/testing/dev-kmsg):
 * `priority,sequence,microseconds,flags[,...];text`, then lines of further facts that begin with a blank. The kernel
 * writes every character that is not printable as `\x..`, so a record cannot be forged from within another.
 */

export interface KernelRecord {
  readonly sequence: number;
  /** Since the boot, on the kernel's clock. */
  readonly sinceBootMs: number;
  readonly text: string;
}

const HEAD = /^(\d{1,9}),(\d{1,15}),(\d{1,18}),[^;]{0,64};/;
/** The lowest three bits of the first number are the priority; the rest is who wrote it, and 0 is the kernel. */
const FACILITY_SHIFT = 3;

/** `null`: no record, or one that a program wrote and not the kernel. */
export function parseRecord(line: string): KernelRecord | null {
  const head = HEAD.exec(line);
  if (head === null || Number(head[1]) >> FACILITY_SHIFT !== 0) return null;
  return { sequence: Number(head[2]), sinceBootMs: Number(head[3]) / 1_000, text: line.slice(head[0].length) };
}
