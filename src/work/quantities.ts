/** Amounts as Kubernetes and MLOC write them: `2000m` of CPU, `32Gi` of memory. Inside the program they are whole numbers. */

const BYTES: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** 1,024 cores: more than one host has. */
const MAX_CPU_MILLIS = 1_024_000;

/** Thousandths of a core: 8, `"8"`, `"0.5"` or `"2000m"`; `null` when it is none of these, or not more than 0. */
export function parseCpuMillis(given: unknown): number | null {
  const text = typeof given === "number" ? String(given) : given;
  if (typeof text !== "string") return null;
  const match = /^(\d{1,9}(?:\.\d{1,9})?)(m?)$/.exec(text.trim());
  if (match === null) return null;
  const millis = Math.ceil(Number(match[1]) * (match[2] === "m" ? 1 : 1_000));
  return millis > 0 && millis <= MAX_CPU_MILLIS ? millis : null;
}

/** Bytes: `32Gi` (powers of 2), `32G` (powers of 10) or a bare number; `null` when it is none of these, or not more than 0. */
export function parseMemoryBytes(given: unknown): number | null {
  const text = typeof given === "number" ? String(given) : given;
  if (typeof text !== "string") return null;
  const match = /^(\d{1,16}(?:\.\d{1,9})?)\s?([kKMGTP]?i?)B?$/.exec(text.trim());
  if (match === null) return null;
  const unit = BYTES[match[2] as string];
  if (unit === undefined) return null;
  const bytes = Math.ceil(Number(match[1]) * unit);
  return bytes > 0 && Number.isSafeInteger(bytes) ? bytes : null;
}

export function formatCpu(millis: number): string {
  return millis % 1_000 === 0 ? String(millis / 1_000) : `${millis}m`;
}

export function formatMemory(bytes: number): string {
  for (const [unit, size] of [
    ["Gi", 2 ** 30],
    ["Mi", 2 ** 20],
    ["Ki", 2 ** 10],
  ] as const) {
    if (bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}
