/**
 * What records of the kernel's log amount to, gathered until it is told. Errors of one kind are counted together, so that
 * a flood is told in few words.
 */
import type { EpochMs } from "../../core/base/time.ts";
import type { KernelReport } from "../../core/readings/xid.ts";
import {
  initFailedAt,
  isDriverLoading,
  isFoundFallen,
  isLoadGivenUp,
  parseSwitchFault,
  parseXidLine,
} from "./xid-line.ts";

/** Kinds of errors that are told of at once. */
const MAX_KINDS = 256;
/** From the first GPU that the driver looks for to its word that it was loaded, at most. */
const LOAD_TAKES_MS = 120_000;

export interface Finding {
  readonly sequence: number;
  readonly at: EpochMs;
  readonly text: string;
}

export class Findings {
  readonly #kinds = new Map<string, KernelReport>();
  /** The first GPU that was not found by a load of the driver which is not over yet. */
  #notFound: Finding | null = null;

  get size(): number {
    return this.#kinds.size;
  }

  note(finding: Finding): void {
    const { sequence, at, text } = finding;
    if (isDriverLoading(text)) {
      const met = this.#notFound;
      this.#notFound = null;
      // What the load met itself is not over with it.
      const upTo = met !== null && at - met.at <= LOAD_TAKES_MS ? met.sequence - 1 : sequence;
      this.add({ kind: "driver-loaded", sequence: upTo });
      return;
    }
    if (isLoadGivenUp(text)) this.#notFound = null;
    else if (isFoundFallen(text)) this.#notFound ??= finding;
    const report = reportOf(finding);
    if (report !== null) this.add(report);
  }

  add(report: KernelReport): void {
    const key = keyOf(report);
    const before = this.#kinds.get(key);
    if (before === undefined) {
      if (this.#kinds.size < MAX_KINDS || report.kind === "driver-loaded") this.#kinds.set(key, report);
      return;
    }
    const [earlier, later] = before.sequence <= report.sequence ? [before, report] : [report, before];
    const counted =
      earlier.kind === "xid" && later.kind === "xid" ? { ...later, count: earlier.count + later.count } : later;
    this.#kinds.set(key, counted);
  }

  /** All that was found since the last call. */
  take(): readonly KernelReport[] {
    const reports = [...this.#kinds.values()];
    this.#kinds.clear();
    return reports;
  }
}

function reportOf({ sequence, at, text }: Finding): KernelReport | null {
  const xid = parseXidLine(text);
  if (xid !== null) return { kind: "xid", ...xid, sequence, at, count: 1 };
  const device = initFailedAt(text);
  if (device !== null) return { kind: "init-failed", device, sequence, at };
  const fault = parseSwitchFault(text);
  return fault === null ? null : { kind: "switch-fault", ...fault, sequence };
}

function keyOf(report: KernelReport): string {
  switch (report.kind) {
    case "xid":
      return `${report.device} ${report.xid} ${report.fatal} ${report.action}`;
    case "init-failed":
      return `${report.device} init`;
    case "switch-fault":
      return `${report.device} switch ${report.sxid}`;
    case "driver-loaded":
      return "loaded";
    default:
      return report satisfies never;
  }
}
