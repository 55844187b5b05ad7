/** Amounts as people read them. `null` is no reading, and never 0. */

export const NO_READING = "–";

/** `62.1`, `80`: GiB with one digit below 100, so that a column of them can be compared. */
export function gib(mib: number | null): string {
  if (mib === null) return NO_READING;
  const value = mib / 1_024;
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

export function rounded(value: number | null): string {
  return value === null ? NO_READING : String(Math.round(value));
}

export function hours(value: number): string {
  if (value > 0 && value < 0.005) return "<0.01";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** From 0 to 1; `null`: no reading of one of them. */
export function share(part: number | null, whole: number | null): number | null {
  return part === null || whole === null || whole <= 0 ? null : Math.min(1, Math.max(0, part / whole));
}

/** `1 GPU`, `2 GPUs`. */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** `0, 3 to 5, 7`: runs of three and more are told by their ends. */
export function indices(ids: readonly (number | null)[]): string {
  const sorted = ids.filter((id) => id !== null).sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (end + 1 < sorted.length && sorted[end + 1] === (sorted[end] as number) + 1) end++;
    const [first, last] = [sorted[i] as number, sorted[end] as number];
    if (end - i >= 2) parts.push(`${first} to ${last}`);
    else for (let id = first; id <= last; id++) parts.push(String(id));
    i = end + 1;
  }
  return parts.join(", ");
}

/** What most share said once: `NVIDIA H100 80GB HBM3` is shown as `H100 80GB HBM3`. */
export function modelOf(name: string): string {
  return name.replace(/^NVIDIA /, "");
}
