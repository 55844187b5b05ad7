/**
 * What requests leave in the audit beside the changes that are kept with their turns: refusals, and what other rooms did.
 *
 *  1. Nothing waits for it: entries are written together, a second later at most.
 *  2. Of one principal's refusals, or an address's without a key, {@link MOST_A_MINUTE} a minute are entries of their own.
 *     The others are counted, and the minute ends with one entry for all of them.
 *  3. Where nothing can be written they are counted, and the next entry that can be says how many are missing.
 */
import type { Caller } from "./auth.ts";
import type { Endpoint } from "./endpoint.ts";

const MOST_A_MINUTE = 60;
const MINUTE_MS = 60_000;
/** Who are counted apart in one minute; all others are one. */
const MOST_NAMES = 1_024;
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

interface Minute {
  readonly first: Entry;
  written: number;
  counted: number;
}

export class Auditing {
  readonly #parts: AuditParts;
  readonly #others: ReadonlySet<Endpoint>;
  readonly #log: { warn(facts: object, message: string): void };
  readonly #timer: NodeJS.Timeout;
  #minute = 0;
  #minutes = new Map<string, Minute>();
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
    const own = noted.caller?.keyed === true ? `principal ${entry.principal}` : `address ${entry.address}`;
    const isNew = !this.#minutes.has(own);
    const name = isNew && this.#minutes.size >= MOST_NAMES ? OTHERS : own;
    const minute = this.#minutes.get(name) ?? {
      first: name === OTHERS ? nobodys(entry) : entry,
      written: 0,
      counted: 0,
    };
    this.#minutes.set(name, minute);
    if (minute.written < MOST_A_MINUTE) {
      minute.written++;
      this.#waiting.push(entry);
    } else minute.counted++;
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
    for (const { first, counted } of this.#minutes.values()) {
      if (counted > 0) this.#waiting.push(countedAs(first, "counted", counted));
    }
    this.#minutes = new Map();
  }

  async #write(): Promise<void> {
    this.#endMinute(this.#parts.now());
    const entries = this.#waiting;
    if (entries.length === 0 && this.#lost === 0) return;
    this.#waiting = [];
    const lost = this.#lost;
    const last = entries.at(-1);
    const missing =
      lost === 0 ? [] : [countedAs(nobodys(last ?? { ...NOTHING, at: this.#parts.now() }), "not-kept", lost)];
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

function nobodys({ at }: Entry): Entry {
  return { ...NOTHING, at };
}

/** One entry that stands for many. */
function countedAs({ at, principal, address }: Entry, result: string, count: number): Entry {
  return { ...NOTHING, at, principal, address, action: "refusals", result, count };
}
