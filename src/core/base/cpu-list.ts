/**
 * Lists of CPUs as Linux writes them: `0-31,64-95` (the "list format" of cpuset(7)), what `taskset -c` and a systemd
 * unit's `CPUAffinity=` take.
 */

/** A first and a last number, both included. */
export type NumberRange = readonly [first: number, last: number];

/** Longest list that is read, in UTF-16 units. One of 2,048 single CPUs takes 10,000. */
const MAX_LIST = 16_384;
const PART = /^(\d{1,5})(?:-(\d{1,5}))?$/;

/** The ranges of a list, ascending and joined where they touch; `null` when it is none. */
export function parseCpuList(text: string): readonly NumberRange[] | null {
  if (text.length > MAX_LIST) return null;
  const ranges: NumberRange[] = [];
  for (const part of text.split(",")) {
    const [, from, to] = PART.exec(part) ?? [];
    if (from === undefined) return null;
    const first = Number(from);
    const last = to === undefined ? first : Number(to);
    if (last < first) return null;
    ranges.push([first, last]);
  }
  return joined(ranges);
}

export function formatCpuList(ranges: readonly NumberRange[]): string {
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

/** Every CPU that is in one of the lists, which {@link formatCpuList} has written. */
export function unionOfCpuLists(lists: readonly string[]): string {
  const [first = "", ...others] = new Set(lists);
  // The GPUs of a lease mostly sit together.
  if (others.length === 0) return first;
  return formatCpuList(joined([first, ...others].flatMap((list) => parseCpuList(list) ?? [])));
}

function joined(ranges: readonly NumberRange[]): NumberRange[] {
  const result: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = result.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else result.push([first, last]);
  }
  return result;
}
