/**
 * What one run of `nvidia-smi` amounts to. Its output is looked at first and its exit code second: with a corrupted
 * infoROM it prints a whole listing and then exits with 14, with a lost GPU a line about that one, then the listing of
 * the others, and then exits with whatever number. A document that is whole tells of the GPUs in it; of those that are
 * not in it, the words beside it do.
 *
 * Exit codes are NVML's `nvmlReturn_t` (https://docs.nvidia.com/deploy/nvml-api/, and `man nvidia-smi`). What it
 * prints instead of XML goes to stdout and has no format; it is matched only where the code says nothing.
 */
import type { ProbeFailure, ProbeFailureKind } from "../../core/model/reading.ts";
import { type ListedGpu, parseListing } from "./listing.ts";
import type { ParseResult, SmiDocument } from "./parse.ts";
import { whyNotStarted } from "./program.ts";
import type { RunEnd } from "./run.ts";
import { oneLine } from "./text.ts";
import { parseTopology, type SmiTopology } from "./topology.ts";
import { type NamedGpu, namedGpus, wordsBeside } from "./words-beside.ts";

const INFOROM_CORRUPTED = 14;
const GPU_LOST = 15;
const NO_DEVICES = 6;
/** Driver not loaded; NVML not found; driver and library of different versions. */
const DRIVER = new Set([9, 12, 18]);

/** The program, or what it needs to be executed, is not there or not for us. */
const MISSING = new Set(["ENOENT", "EACCES", "ENOTDIR", "ELOOP", "EPERM", "ENOEXEC", "EISDIR"]);

const LOST_GPU = /GPU is lost|Unable to determine the device handle for GPU/i;
const TEXTS: readonly { readonly pattern: RegExp; readonly kind: ProbeFailureKind }[] = [
  { pattern: /No devices were found/, kind: "no-devices" },
  { pattern: /Failed to initialize NVML|couldn't communicate with the NVIDIA driver/, kind: "driver" },
  { pattern: /couldn't find libnvidia-ml/, kind: "driver" },
  { pattern: LOST_GPU, kind: "gpu-lost" },
];
const LOST_WORD = /^\[?GPU is lost/;
/** How much of what it printed is searched for those texts. */
const MAX_SEARCHED = 4096;

export type Verdict =
  | {
      readonly ok: true;
      readonly document: SmiDocument;
      readonly warnings: readonly string[];
      /** GPUs that it said beside the document that it cannot reach. */
      readonly named: readonly NamedGpu[];
    }
  | { readonly ok: false; readonly failure: ProbeFailure };

type Exited = Extract<RunEnd, { kind: "exited" }>;

/** A run that gave no output to read. */
export function failureOf(end: Exclude<RunEnd, Exited>, program: string, timeoutMs: number): ProbeFailure {
  switch (end.kind) {
    case "not-started":
      return failed(
        MISSING.has(end.code) ? "missing" : "exit",
        `nvidia-smi cannot be run: ${whyNotStarted(program, end.code)}`,
      );
    case "timed-out":
      return failed("timeout", `nvidia-smi did not answer within ${timeoutMs} ms${fate(end.abandoned)}`);
    case "flooded":
      return failed("garbled", `nvidia-smi printed without end${fate(end.abandoned)}`);
    case "stopped":
      return failed("exit", `nvidia-smi was stopped${fate(end.abandoned)}`);
    default:
      return end satisfies never;
  }
}

function fate(abandoned: boolean): string {
  return abandoned ? " and cannot be killed" : " and was ended";
}

/** A run that came to its end by itself, and what its output parsed to. */
export function judge(end: Exited, parsed: ParseResult): Verdict {
  const said = parsed.ok ? "" : whatItSaid(end);
  if (end.exitCode !== null && DRIVER.has(end.exitCode)) return refused("driver", end, said);
  if (!parsed.ok) return refused(kindWithoutDocument(end, said), end, said || parsed.error.message);
  const beside = `${wordsBeside(end.stdout)}\n${end.stderr.slice(0, MAX_SEARCHED)}`;
  const named = namedGpus(beside);
  if (end.exitCode === GPU_LOST && named.length === 0 && !showsLostGpu(parsed.document)) {
    return refused("gpu-lost", end, "a GPU is lost, and its output does not show which");
  }
  const { gpus } = parsed.document.reading;
  if (gpus.length === 0) return noGpus(end, named);
  const warnings = [
    ...(end.exitCode === 0 ? [] : [withWords(end, named.length > 0 ? "" : beside.trim())]),
    ...named.map(({ words }) => words),
  ];
  return { ok: true, document: parsed.document, warnings, named };
}

/** A document without GPUs is the same news as `No devices were found`, unless it names some. */
function noGpus(end: Exited, named: readonly NamedGpu[]): Verdict {
  const [first] = named;
  if (first !== undefined) return refused("gpu-lost", end, first.words);
  return { ok: false, failure: failed("no-devices", "nvidia-smi shows no GPU") };
}

/** What a run of `nvidia-smi topo -m` brought: the topology, or in one line why there is none. */
export function judgeTopology(end: Exited): SmiTopology | string {
  const parsed = parseTopology(end.stdout);
  if (end.exitCode !== 0 && end.exitCode !== INFOROM_CORRUPTED) {
    return withWords(end, parsed.ok ? "" : whatItSaid(end));
  }
  return parsed.ok ? parsed.topology : parsed.error.message;
}

/** What a run of `nvidia-smi -L` brought: the GPUs that it lists, or in one line why it lists none. */
export function judgeListing(end: Exited): readonly ListedGpu[] | string {
  const listing = parseListing(end.stdout);
  // A lost GPU, or a corrupted infoROM, spoils the exit code and not what is said of the others.
  return listing.length > 0 ? listing : withWords(end, whatItSaid(end));
}

function refused(kind: ProbeFailureKind, end: Exited, said: string): Verdict {
  return { ok: false, failure: { kind, message: withWords(end, said), exitCode: end.exitCode } };
}

function withWords(end: Exited, said: string): string {
  return oneLine(said.trim() === "" ? howItEnded(end) : `${howItEnded(end)}: ${said}`);
}

function failed(kind: ProbeFailureKind, message: string): ProbeFailure {
  return { kind, message: oneLine(message), exitCode: null };
}

function howItEnded(end: Exited): string {
  return end.exitCode === null ? `nvidia-smi was ended by ${end.signal}` : `nvidia-smi exited with ${end.exitCode}`;
}

function kindWithoutDocument(end: Exited, said: string): ProbeFailureKind {
  if (end.exitCode === NO_DEVICES && !LOST_GPU.test(said)) return "no-devices";
  if (end.exitCode === GPU_LOST) return "gpu-lost";
  const known = TEXTS.find(({ pattern }) => pattern.test(said));
  if (known !== undefined) return known.kind;
  return end.exitCode === 0 ? "garbled" : "exit";
}

/** The text it printed in place of a document; empty when it began one, whose content is not its own words. */
function whatItSaid(end: Exited): string {
  const stdout = new TextDecoder().decode(end.stdout.subarray(0, MAX_SEARCHED));
  const words = stdout.includes("<?xml") || stdout.includes("<nvidia_smi_log") ? "" : stdout;
  return `${words.trim()} ${end.stderr.slice(0, MAX_SEARCHED)}`.trim();
}

function showsLostGpu(document: SmiDocument): boolean {
  return document.reading.gpus.some((gpu) => Object.values(gpu.errorValues).some((word) => LOST_WORD.test(word)));
}
