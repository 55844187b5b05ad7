/**
 * Records of the kernel's log as other programs write them down: `dmesg`, `dmesg -T`, syslog, `journalctl -k` and the
 * journal's export. These have no numbers; the time stands for them.
 *
 * Unlike `/dev/kmsg`, a syslog tells the kernel's words from a program's only by the tag `kernel:`, which any program can
 * write that may write to the log at all.
 */

export interface TextRecord {
  /** Since the epoch, ms; `null`: only the time since the boot is told. */
  readonly at: number | null;
  /** `null`: not told. */
  readonly sinceBootMs: number | null;
  readonly text: string;
}

const SINCE_BOOT = "\\[ *(\\d{1,12}\\.\\d{1,9})\\]";
/** `dmesg`; with `-x` the facility and the level stand before it, with `-r` their number. */
const DMESG = new RegExp(`^(?:<\\d{1,3}>|kern *:\\w+ *: *)?${SINCE_BOOT} (.*)$`);
const DMESG_T = /^\[([A-Z][a-z]{2}) ([A-Z][a-z]{2}) +(\d{1,2}) (\d\d:\d\d:\d\d) (\d{4})\] (.*)$/;
const ISO = "(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d)(?:[.,](\\d{1,9}))?(Z|[+-]\\d\\d:?\\d\\d)";
const DMESG_ISO = new RegExp(`^${ISO} (NVRM:.*|nvidia-nvswitch.*)$`);
const SYSLOG_ISO = new RegExp(`^${ISO} \\S{1,255} kernel: (?:${SINCE_BOOT} )?(.*)$`);
const SYSLOG = new RegExp(
  `^([A-Z][a-z]{2}) +(\\d{1,2}) (\\d\\d:\\d\\d:\\d\\d) \\S{1,255} kernel: (?:${SINCE_BOOT} )?(.*)$`,
);
const DAY_MS = 24 * 60 * 60_000;

/**
 * @param now tells which year is meant where none stands.
 * @returns `null`: a line of no known form, or of a program's own.
 */
export function parseTextRecord(line: string, now: number): TextRecord | null {
  const dmesg = DMESG.exec(line);
  if (dmesg !== null) return { at: null, sinceBootMs: msOf(dmesg[1]), text: dmesg[2] as string };
  const human = DMESG_T.exec(line);
  if (human !== null) {
    const [, , month, day, time, year, text] = human as unknown as string[];
    return dated(Date.parse(`${month} ${day} ${year} ${time}`), null, text as string);
  }
  const iso = SYSLOG_ISO.exec(line);
  if (iso !== null) return dated(isoTime(iso), msOf(iso[4]), iso[5] as string);
  const plain = DMESG_ISO.exec(line);
  if (plain !== null) return dated(isoTime(plain), null, plain[4] as string);
  const syslog = SYSLOG.exec(line);
  if (syslog === null) return null;
  const [, month, day, time, sinceBoot, text] = syslog as unknown as string[];
  return dated(inYearBefore(`${month} ${day}`, time as string, now), msOf(sinceBoot), text as string);
}

function dated(at: number, sinceBootMs: number | null, text: string): TextRecord | null {
  return Number.isNaN(at) ? null : { at, sinceBootMs, text };
}

function isoTime(found: RegExpExecArray): number {
  return Date.parse(`${found[1]}.${(found[2] ?? "0").slice(0, 3)}${found[3]}`);
}

/** A syslog has no year: it is the latest in which the day has come. */
function inYearBefore(day: string, time: string, now: number): number {
  const year = new Date(now).getFullYear();
  const at = Date.parse(`${day} ${year} ${time}`);
  return at > now + DAY_MS ? Date.parse(`${day} ${year - 1} ${time}`) : at;
}

function msOf(seconds: string | undefined): number | null {
  return seconds === undefined ? null : Number(seconds) * 1_000;
}

const FIELD = /^([A-Z_][A-Z0-9_]{0,63})=(.*)$/;
const MAX_FIELDS = 128;

/**
 * One entry of `journalctl -o export` after the other, line by line: fields, then an empty line. `_TRANSPORT` comes from
 * the journal itself, so a program's words do not pass for the kernel's.
 */
export class JournalExport {
  readonly #fields = new Map<string, string>();

  /** Whether the line belongs to an entry. */
  takes(line: string): boolean {
    const field = FIELD.exec(line);
    if (field === null) return false;
    if (this.#fields.size < MAX_FIELDS) this.#fields.set(field[1] as string, field[2] as string);
    return true;
  }

  /** The entry that an empty line ends; `null`: there is none, or it is not the kernel's. */
  end(): TextRecord | null {
    const record = journalRecord(Object.fromEntries(this.#fields));
    this.#fields.clear();
    return record;
  }
}

/** A line of `journalctl -o json`; `null`: it is none, or not the kernel's. */
export function parseJournalJson(line: string): TextRecord | null {
  try {
    return journalRecord(JSON.parse(line) as { readonly [field: string]: unknown });
  } catch {
    return null;
  }
}

function journalRecord(fields: { readonly [field: string]: unknown }): TextRecord | null {
  const { _TRANSPORT: transport, MESSAGE: message, __REALTIME_TIMESTAMP: micros } = fields;
  if (transport !== "kernel" || typeof message !== "string" || typeof micros !== "string") return null;
  return dated(Math.floor(Number(micros) / 1_000), null, message);
}
