/**
 * Lines of the kernel's log, in whichever form it is written, as records with a number and a time.
 *
 * `/dev/kmsg` numbers its records. Where none has a number, the time stands for it, in ms: it is the same however often
 * the log is read, and a record that is not later than the one before it counts as the next after it.
 */
import type { EpochMs } from "../../core/base/time.ts";
import type { Finding } from "./findings.ts";
import { parseRecord } from "./record.ts";
import { JournalExport, parseJournalJson, parseTextRecord, type TextRecord } from "./text-record.ts";

/** The driver cuts what it says of a GPU that it cannot use into lines, of which most logs give only the first a head. */
const BEGINS = /^NVRM:\s+The NVIDIA GPU /;
const GOES_ON = /^NVRM:\s+(?:\(PCI ID|installed|in this system|has|fallen)\b/;
const WITHOUT_HEAD = /^\s+(NVRM:.*)$/;
/** What the head, the address and "fallen off the bus" take together, with room. */
const MAX_JOINED = 1_024;

export class KernelLines {
  readonly #now: () => EpochMs;
  readonly #sinceBootMs: () => number;
  readonly #journal = new JournalExport();
  #lastSequence = -1;
  /** A record that may go on in the next line. */
  #open: Finding | null = null;
  #known = false;
  #unknown = false;
  #isJournal = false;

  /** @param sinceBootMs on the clock that the kernel's log goes by. */
  constructor(now: () => EpochMs, sinceBootMs: () => number) {
    this.#now = now;
    this.#sinceBootMs = sinceBootMs;
  }

  /** Why nothing can be made of what was read; `null`: something can, or there was nothing yet. */
  get problem(): string | null {
    return this.#unknown && !this.#known ? "its lines are of no form that is known" : null;
  }

  /** Whether lines matter that are not about GPUs: for the log's form, or because they belong to one that is. */
  get wantsAll(): boolean {
    return !this.#known || this.#isJournal || this.#open !== null;
  }

  /** Something that is no line, such as a journal's own file. */
  noteUnknown(): void {
    this.#unknown = true;
  }

  /** Begins anew, as the file does. */
  restart(): void {
    this.#lastSequence = -1;
    this.#open = null;
    this.#known = false;
    this.#unknown = false;
    this.#isJournal = false;
  }

  /** The record that is complete with this line; `null`: none is. */
  read(line: string): Finding | null {
    const open = this.#open;
    this.#open = null;
    const headless = open === null ? null : WITHOUT_HEAD.exec(line);
    const finding = headless === null ? this.#parse(line) : { ...(open as Finding), text: headless[1] as string };
    if (finding === null) return null;
    const goesOn = open !== null && GOES_ON.test(finding.text);
    const whole = goesOn ? { ...finding, text: `${open.text} ${finding.text}`.slice(0, MAX_JOINED) } : finding;
    if (BEGINS.test(whole.text)) this.#open = whole;
    return whole;
  }

  #parse(line: string): Finding | null {
    const record = parseRecord(line);
    if (record !== null) {
      this.#known = true;
      return { sequence: record.sequence, at: this.#instantOf(record.sinceBootMs), text: record.text };
    }
    const text = this.#textRecord(line);
    if (text !== null) {
      this.#known = true;
      return this.#numbered(text);
    }
    // Further facts of a record begin with a blank.
    if (/^\S/.test(line) && !this.#isJournal) this.#unknown = true;
    return null;
  }

  #textRecord(line: string): TextRecord | null {
    if (line === "") return this.#journal.end();
    if (line.startsWith("{")) return parseJournalJson(line);
    if (this.#journal.takes(line)) {
      this.#known = true;
      this.#isJournal = true;
      return null;
    }
    return parseTextRecord(line, this.#now());
  }

  #numbered({ at, sinceBootMs, text }: TextRecord): Finding {
    const time = at === null ? this.#instantOf(sinceBootMs ?? 0) : Math.min(this.#now(), at);
    const sequence = Math.max(this.#lastSequence + 1, Math.floor(at ?? sinceBootMs ?? 0));
    this.#lastSequence = sequence;
    return { sequence, at: time, text };
  }

  #instantOf(sinceBootMs: number): EpochMs {
    const now = this.#now();
    return Math.round(Math.min(now, now - (this.#sinceBootMs() - sinceBootMs)));
  }
}
