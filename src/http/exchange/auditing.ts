/**
 * What requests leave in the audit beside the changes that are kept with their turns: refusals, and what other rooms did.
 *
 *  1. Nothing waits for it: entries are written together, a second later at most.
 *  2. {@link MOST_A_MINUTE} a minute are entries of their own of each sort of one principal's refusals, so that a flood of
 *     one sort does not hide another ({@link sortOf}). Of those without a key there are as many of an address, and
 *     {@link MOST_OF_STRANGERS} of all of them. The others are counted by call and code, and the minute ends with an entry
 *     for each.
 *  3. Where nothing can be written they are counted, and the next entry that can be says how many are missing.
 */
import type { Caller } from "./auth.ts";
import type { Endpoint } from "./endpoint.ts";

const MOST_A_MINUTE = 60;
const MINUTE_MS = 60_000;
/** Of all who came without a key: they cost nothing to be one of, and must not fill the audit. */
const MOST_OF_STRANGERS = 300;
/** Who are counted apart in one minute; all others are one. */
const MOST_NAMES = 1_024;
/** Calls and codes that are counted apart of one name; all others are one. */
const MOST_KINDS = 32;
const WRITE_EVERY_MS = 1_000;

export interface Entry {
  readonly at: number;
  readonly principal: string | null;
  readonly keyId: string | null;
  readonly address: string | null;
  readonly action: string;
  readonly object: string | null;
  readonly result: string;
  readonly reason: string | null;
  readonly requestId: string | null;
  readonly count: number;
}

/** Of one request. */
export interface Noted {
  /** `null`: nobody was told. */
  readonly caller: Caller | null;
  readonly address: string;
  readonly action: string;
  readonly object: string | null;
  readonly requestId: string;
}

export interface AuditParts {
  readonly keep: (entries: readonly Entry[]) => Promise<void>;
  readonly now: () => number;
  /** Endpoints whose changes nobody else writes down. */
  readonly others: readonly Endpoint[];
}

/** By call and code: the entry that stands for all of them. */
type Counts = Map<string, Entry>;

/** Of one name. */
interface Minute {
  written: number;
  readonly counts: Counts;
}

export class Auditing {
  readonly #parts: AuditParts;
  readonly #others: ReadonlySet<Endpoint>;
  readonly #log: { warn(facts: object, message: string): void };
  readonly #timer: NodeJS.Timeout;
  #minute = 0;
  #minutes = new Map<string, Minute>();
  /** By address. What is counted of them is counted together. */
  #strangers = new Map<string, { written: number }>();
  #ofStrangers: Minute = { written: 0, counts: new Map() };
  #waiting: Entry[] = [];
  #lost = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(parts: AuditParts, log: { warn(facts: object, message: string): void }) {
    this.#parts = parts;
    this.#others = new Set(parts.others);
    this.#log = log;
    this.#timer = setInterval(() => void this.flush(), WRITE_EVERY_MS).unref();
  }

  /** A request that may have changed something was answered well. */
  answered(endpoint: Endpoint, noted: Noted): void {
    if (this.#others.has(endpoint)) this.#waiting.push(entryOf(noted, this.#parts.now(), "done"));
  }

  /** @param code says why. */
  refused(noted: Noted, code: string): void {
    const entry = entryOf(noted, this.#parts.now(), code);
    this.#endMinute(entry.at);
    if (noted.caller?.keyed === true) this.#refusedPrincipal(entry);
    else this.#refusedStranger(entry);
  }

  #refusedPrincipal(entry: Entry): void {
    const own = `${sortOf(entry)} ${entry.principal}`;
    const isNew = !this.#minutes.has(own);
    const name = isNew && this.#minutes.size >= MOST_NAMES ? OTHERS : own;
    const minute = this.#minutes.get(name) ?? { written: 0, counts: new Map() };
    this.#minutes.set(name, minute);
    if (minute.written < MOST_A_MINUTE) {
      minute.written++;
      this.#waiting.push(entry);
    } else count(minute.counts, entry);
  }

  #refusedStranger(entry: Entry): void {
    const all = this.#ofStrangers;
    const own = this.#strangers.get(entry.address ?? "") ?? { written: 0 };
    if (all.written >= MOST_OF_STRANGERS || own.written >= MOST_A_MINUTE) {
      count(all.counts, entry);
      return;
    }
    this.#strangers.set(entry.address ?? "", own);
    own.written++;
    all.written++;
    this.#waiting.push(entry);
  }

  /** Writes what waits. Never rejects. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#endMinute(Number.POSITIVE_INFINITY);
    await this.flush();
  }

  #endMinute(now: number): void {
    const minute = Math.floor(now / MINUTE_MS);
    if (minute === this.#minute) return;
    this.#minute = minute;
    for (const { counts } of [...this.#minutes.values(), this.#ofStrangers]) {
      this.#waiting.push(...counts.values());
    }
    this.#minutes = new Map();
    this.#strangers = new Map();
    this.#ofStrangers = { written: 0, counts: new Map() };
  }

  async #write(): Promise<void> {
    this.#endMinute(this.#parts.now());
    const entries = this.#waiting;
    if (entries.length === 0 && this.#lost === 0) return;
    this.#waiting = [];
    const lost = this.#lost;
    const last = entries.at(-1);
    const at = last?.at ?? this.#parts.now();
    const missing = lost === 0 ? [] : [{ ...NOTHING, at, action: REFUSALS, result: "not-kept", count: lost }];
    try {
      await this.#parts.keep([...missing, ...entries]);
      this.#lost -= lost;
    } catch {
      const count = entries.reduce((sum, entry) => sum + entry.count, 0);
      this.#lost += count;
      if (count > 0) this.#log.warn({ count }, "refusals could not be written down; they are counted");
    }
  }
}

const OTHERS = "others";
/** The action of an entry that stands for refusals of several calls. */
const REFUSALS = "refusals";
/** Codes of refusals that say that somebody tried what is not for it. */
const FORBIDDEN: ReadonlySet<string> = new Set(["role-too-low", "not-owner"]);

const NOTHING: Entry = {
  at: 0,
  principal: null,
  keyId: null,
  address: null,
  action: "",
  object: null,
  result: "",
  reason: null,
  requestId: null,
  count: 1,
};

function entryOf({ caller, address, action, object, requestId }: Noted, at: number, result: string): Entry {
  const principal = caller?.actor.principal ?? null;
  return { ...NOTHING, at, principal, keyId: caller?.keyId ?? null, address, action, object, result, requestId };
}

/** Whether it was of what its principal may not do, of another change, or of something that only looks. */
function sortOf({ action, result }: Entry): string {
  if (FORBIDDEN.has(result)) return "forbidden";
  return /^(GET|HEAD) /.test(action) ? "look" : "change";
}

/** Adds a refusal to those of its call and code. Where they differ in who sent them, or from where, that is left out. */
function count(counts: Counts, { at, principal, address, action, result }: Entry): void {
  const own = `${action} ${result}`;
  const name = counts.has(own) || counts.size < MOST_KINDS ? own : OTHERS;
  const kind = name === OTHERS ? { action: REFUSALS, reason: null } : { action, reason: result };
  const known = counts.get(name) ?? { ...NOTHING, at, principal, address, ...kind, result: "counted", count: 0 };
  counts.set(name, {
    ...known,
    principal: known.principal === principal ? principal : null,
    address: known.address === address ? address : null,
    count: known.count + 1,
  });
}
