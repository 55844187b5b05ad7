/** Durations as people write them: `5s`, `1m30s`, `250ms`, `2h`, `30d`. Inside the program they are milliseconds. */

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
  ["ms", 1],
] as const;
const UNIT_MS: ReadonlyMap<string, number> = new Map(UNITS);

/** A hundred years: an instant plus the longest duration is still an exact integer. */
export const MAX_DURATION_MS = 36_500 * 86_400_000;
const MAX_TEXT_LENGTH = 64;
/** Decimal fractions are not exact in binary: `2.3h` may miss its millisecond by this much. */
const ROUNDING_MS = 1e-6;

/**
 * Reads a duration: one or more numbers, each with its unit (`d`, `h`, `m`, `s`, `ms`), larger units first and none
 * twice. A number may have a fraction (`1.5h`) as long as the whole is a whole number of milliseconds.
 *
 * @returns milliseconds, or `null` when the text is no such duration or is longer than {@link MAX_DURATION_MS}.
 */
export function parseDuration(text: string): number | null {
  if (text.length === 0 || text.length > MAX_TEXT_LENGTH) return null;
  let totalMs = 0;
  let smallestMs = Number.POSITIVE_INFINITY;
  let read = 0;
  for (const [part, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[dhms])/g)) {
    const unitMs = UNIT_MS.get(unit ?? "");
    if (unitMs === undefined || unitMs >= smallestMs) return null;
    totalMs += Number(amount) * unitMs;
    smallestMs = unitMs;
    read += part.length;
  }
  const wholeMs = Math.round(totalMs);
  // Fewer characters read than given: something between the parts was none of them.
  if (read !== text.length || Math.abs(totalMs - wholeMs) > ROUNDING_MS || wholeMs > MAX_DURATION_MS) return null;
  return wholeMs;
}

/** Writes whole milliseconds, 0 or more, so that {@link parseDuration} reads the same number: `90000` is `1m30s`. */
export function formatDuration(durationMs: number): string {
  let restMs = durationMs;
  let text = "";
  for (const [unit, unitMs] of UNITS) {
    const count = Math.floor(restMs / unitMs);
    if (count === 0) continue;
    text += `${count}${unit}`;
    restMs -= count * unitMs;
  }
  return text === "" ? "0s" : text;
}
