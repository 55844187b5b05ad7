import type { EpochMs } from "../core/base/time.ts";
import { isoTime } from "../platform/iso-time.ts";
import { printable } from "../platform/printable.ts";

export function instant(at: EpochMs | null): string | null {
  return at === null ? null : timestamp(at);
}

export function text(given: string | null): string | null {
  return given === null ? null : printable(given);
}

export function timestamp(at: EpochMs): string {
  return isoTime(at);
}

/** To six digits: 3.6 ms. */
export function hoursOf(ms: number): number {
  return Math.round(ms / 3.6) / 1e6;
}
