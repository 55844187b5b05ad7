/** What a document says to a reader without an XML parser: enough to tell when a reading lies. */
import type { GpuReading, HostReading } from "../../../src/core/model/reading.ts";

const END = "</nvidia_smi_log>";

/** Lists that say nothing of now; where one is opened twice, from the second on. */
const UNREAD = ["supported_clocks", "accounted_processes"].map(
  (tag) => new RegExp(`<${tag}>(?:(?!<${tag}>)[^])*?</${tag}>`, "g"),
);

/** The last document, without process names, comments, the marks of CDATA and what is not read. */
function bareDocument(text: string): string {
  const end = text.lastIndexOf(END);
  const bare = text
    .slice(text.lastIndexOf("<nvidia_smi_log", end), end)
    .replaceAll(/<process_name>[\s\S]*?<\/process_name>/g, "")
    .replaceAll(/<!--[\s\S]*?-->/g, "")
    .replaceAll(/<!\[CDATA\[|\]\]>/g, "");
  return UNREAD.reduce((rest, list) => rest.replaceAll(list, ""), bare);
}

function figuresIn(figures: Figures, tags: readonly string[]): number[] {
  return tags.flatMap((tag) => figures.get(tag) ?? []);
}

/** By tag. */
type Figures = ReadonlyMap<string, readonly number[]>;
const FIGURE = /<([a-z_]+)(?:\s[^<>]*)?>\s*(\d+(?:\.\d+)?)(?: \S+)?\s*<\/\1\s*>/g;

function figuresOf(xml: string): Figures {
  const figures = new Map<string, number[]>();
  for (const [, tag = "", digits] of xml.matchAll(FIGURE)) {
    const found = figures.get(tag) ?? [];
    found.push(Number(digits));
    figures.set(tag, found);
  }
  return figures;
}

const FIGURES: readonly [keyof GpuReading, readonly string[]][] = [
  ["memoryTotalMib", ["total"]],
  ["memoryReservedMib", ["reserved"]],
  ["memoryUsedMib", ["used"]],
  ["memoryFreeMib", ["free"]],
  ["utilizationPercent", ["gpu_util"]],
  ["temperatureC", ["gpu_temp"]],
  ["powerDrawW", ["power_draw", "instant_power_draw"]],
  ["powerLimitW", ["power_limit", "current_power_limit"]],
  ["minorNumber", ["minor_number"]],
];

const CORRECTED = ["total", "dram_correctable", "sram_correctable"];
const UNCORRECTED = [
  "total",
  "dram_uncorrectable",
  "sram_uncorrectable",
  "sram_uncorrectable_parity",
  "sram_uncorrectable_secded",
];

/** Counters that may be sums: of these only a zero can be held against the text. */
const COUNTERS: readonly [keyof GpuReading["health"], readonly string[]][] = [
  ["eccCorrectedVolatile", CORRECTED],
  ["eccCorrectedAggregate", CORRECTED],
  ["eccUncorrectedVolatile", UNCORRECTED],
  ["eccUncorrectedAggregate", UNCORRECTED],
  ["retiredPages", ["retired_count"]],
  ["remappedRowsCorrectable", ["remapped_row_corr"]],
  ["remappedRowsUncorrectable", ["remapped_row_unc"]],
];

/** What is wrong with a reading of this text; `null`: nothing. */
export function lie(text: string, reading: HostReading): string | null {
  const slices = bareDocument(text)
    .split(/<gpu(?=[\s>])/)
    .slice(1);
  if (reading.gpus.length !== slices.length) return `${reading.gpus.length} GPUs of ${slices.length}`;
  if (new Set(reading.gpus.map((gpu) => gpu.uuid)).size !== slices.length) return "two GPUs of one name";
  for (const [index, gpu] of reading.gpus.entries()) {
    const wrong = lieOfGpu(gpu, slices[index] as string);
    if (wrong !== null) return `GPU ${index}: ${wrong}`;
  }
  return null;
}

function lieOfGpu(gpu: GpuReading, xml: string): string | null {
  const figures = figuresOf(xml);
  for (const [field, tags] of FIGURES) {
    const value = gpu[field];
    if (value !== null && !figuresIn(figures, tags).includes(value as number)) {
      return `${field} is ${String(value)}, which stands nowhere`;
    }
  }
  for (const [field, tags] of COUNTERS) {
    if (gpu.health[field] === 0 && !figuresIn(figures, tags).includes(0))
      return `${field} is a zero that stands nowhere`;
  }
  const listed = figuresIn(figures, ["used_memory"]);
  for (const { pid, usedMemoryMib } of gpu.processes) {
    if (usedMemoryMib !== null && !listed.includes(usedMemoryMib)) return `process ${pid} uses what stands nowhere`;
  }
  // Of a process without a pid the GPU's reading says so, which keeps it from being granted.
  if ("processes/process_info/pid" in gpu.errorValues) return null;
  const processes = (xml.match(/<process_info(?=[\s>])/g) ?? []).length;
  return gpu.processes.length === processes ? null : `${gpu.processes.length} processes of ${processes}`;
}

/** The GPU elements of the last document, as they stand. */
export function gpuElements(text: string): readonly string[] {
  const end = text.lastIndexOf(END);
  return text.slice(text.lastIndexOf("<nvidia_smi_log", end), end).match(/<gpu[\s>][\s\S]*?<\/gpu>/g) ?? [];
}

/** Everything that one element tells, without what its neighbours decide: its place, and whether its UUID is its own. */
export function ownWords({ uuid: _, index: __, ...own }: GpuReading): string {
  return JSON.stringify(own);
}
