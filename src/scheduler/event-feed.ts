/**
 * The committed events as their readers follow them: the latest from memory, those before them from the journal.
 *
 *  1. Readers pull. One that is slow is a position and nothing more; what it is given at a time is bounded.
 *  2. Events are handed out by number, in order, each once and none before its turn is committed. Where they are kept
 *     makes no difference to that, so that a replay goes over into the present without a seam.
 *  3. A reader whose next events are not kept any more, or whose position was never reached, is told so, by a reset,
 *     before it goes on.
 *  4. One page of the journal is read per turn of the event loop, however many readers there are.
 *  5. While there is no reader, committed events are only counted. However many readers follow a busy daemon, most of
 *     its time is left for its other work ({@link REST_PER_WORK}).
 */
import type { AllocationId } from "../core/model/ids.ts";
import type { Clock } from "../platform/clock.ts";
import type { Committed, Observer } from "../ports/observer.ts";
import type { JournalEntry, Store } from "../ports/store.ts";
import { type PrincipalOf, type PublicEvent, publicEvent } from "../wire/events/bodies.ts";

/** Events that a reader is given at a time. */
export const PAGE_EVENTS = 256;
/** Events kept in memory, while there are readers, for the readers that are nearly up to date. */
const RECENT_EVENTS = 1_024;
/** Readers are told of news at once, and of further news no sooner than this, in ms: a busy daemon tells many events together. */
const NEWS_INTERVAL_MS = 50;
/** Readers are also left alone for this many times as long as it took to hand all of them the last news. */
const REST_PER_WORK = 4;

/** Why a reader's events do not follow those it had: they were pruned, or it had some that this journal never had. */
export interface Reset {
  readonly reason: "trimmed" | "ahead";
  /** Of the events kept; `null` when none is. */
  readonly oldestSeq: number | null;
  readonly lastSeq: number;
  /** The reader goes on after this one. */
  readonly position: number;
}

/** What a reader is given: events, none when none came in its time, or a reset. */
export type Page = { readonly events: readonly PublicEvent[] } | { readonly reset: Reset };

const NOTHING: Page = { events: [] };

export class EventFeed implements Observer {
  readonly #store: Pick<Store, "readEvents">;
  readonly #principalOf: PrincipalOf;
  readonly #clock: Clock;
  #lastSeq: number;
  #readers = 0;
  /** By number, modulo its length. */
  #recent: PublicEvent[] = [];
  readonly #listeners = new Set<() => void>();
  /** Readers are not to be woken now; if there is news by its end, they are then. */
  #isQuiet = false;
  #hasNews = false;
  /** Settles, never rejecting, when the last page that was asked for has been read. */
  #lastPage: Promise<unknown> = Promise.resolve();

  /** @param principalOf of live allocations and of those that are kept, as last committed. */
  constructor(store: Pick<Store, "readEvents">, clock: Clock, lastSeq: number, principalOf: PrincipalOf) {
    this.#store = store;
    this.#principalOf = principalOf;
    this.#clock = clock;
    this.#lastSeq = lastSeq;
  }

  /** The number of the last committed event. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** How many read now. */
  get readers(): number {
    return this.#readers;
  }

  /**
   * A reader of the events after number `after`; `null`: of future events only. From 0 it gets every event that is
   * kept, without a reset for older ones that are not. The caller closes it.
   */
  open(after: number | null): EventReader {
    this.#readers++;
    return new EventReader(this, after ?? this.#lastSeq);
  }

  /** A reader has closed. */
  closed(): void {
    this.#readers--;
    if (this.#readers === 0) this.#recent = [];
  }

  committed({ at, events, lastSeq, before }: Pick<Committed, "at" | "events" | "lastSeq" | "before">): void {
    this.#lastSeq = lastSeq;
    if (this.#readers === 0 || events.length === 0) return;
    const first = lastSeq - events.length + 1;
    // Those that have ended are not live any more, and need not be looked up in the store.
    const principalOf = (id: AllocationId) => before.allocations.get(id)?.request.principal ?? this.#principalOf(id);
    for (let i = Math.max(0, events.length - RECENT_EVENTS); i < events.length; i++) {
      const event = publicEvent({ seq: first + i, at, event: events[i] as JournalEntry["event"] }, principalOf);
      this.#recent[event.seq % RECENT_EVENTS] = event;
    }
    this.#hasNews = true;
    if (!this.#isQuiet) this.#spread();
  }

  #spread(): void {
    this.#isQuiet = this.#hasNews;
    if (!this.#hasNews) return;
    this.#hasNews = false;
    const begunAt = performance.now();
    for (const listener of [...this.#listeners]) listener();
    // By then the readers that were woken have taken their events.
    setImmediate(() => {
      const restMs = Math.max(NEWS_INTERVAL_MS, REST_PER_WORK * (performance.now() - begunAt));
      setTimeout(() => this.#spread(), restMs).unref();
    });
  }

  /** Waits for news, for `patienceMs`, or until `signal`. */
  news(patienceMs: number, signal: AbortSignal): Promise<"news" | "none"> {
    return new Promise((resolve) => {
      const end = (how: "news" | "none") => {
        cancel();
        this.#listeners.delete(heard);
        signal.removeEventListener("abort", stopped);
        resolve(how);
      };
      const heard = () => end("news");
      const stopped = () => end("none");
      const cancel = this.#clock.after(patienceMs, stopped);
      this.#listeners.add(heard);
      signal.addEventListener("abort", stopped);
      if (signal.aborted) stopped();
    });
  }

  /** The events after `position` that are in memory, a page of them at most; none when the event after `position` is not. */
  recent(position: number): readonly PublicEvent[] {
    const page: PublicEvent[] = [];
    for (let seq = position + 1; page.length < PAGE_EVENTS; seq++) {
      const event = this.#recent[seq % RECENT_EVENTS];
      if (event?.seq !== seq) break;
      page.push(event);
    }
    return page;
  }

  /** As its readers are told of them; each allocation of a page is looked up once. */
  told(entries: readonly JournalEntry[]): readonly PublicEvent[] {
    const known = new Map<AllocationId, string | null>();
    const principalOf = (id: AllocationId) => {
      const principal = known.get(id) ?? this.#principalOf(id);
      known.set(id, principal);
      return principal;
    };
    return entries.map((entry) => publicEvent(entry, principalOf));
  }

  /**
   * The events after `position` that are in the journal, a page of them at most. The store may already
   * show an event whose commit is not acknowledged yet: it is left out (2).
   */
  async journal(position: number, limit: number, signal: AbortSignal): Promise<readonly JournalEntry[]> {
    const before = this.#lastPage;
    const { promise: read, resolve: done } = Promise.withResolvers<void>();
    this.#lastPage = read;
    await before;
    try {
      if (signal.aborted) return [];
      await new Promise((resolve) => setImmediate(resolve));
      return this.#store.readEvents(position, limit).filter(({ seq }) => seq <= this.#lastSeq);
    } finally {
      done();
    }
  }
}

/** Follows the events for one client. */
export class EventReader {
  readonly #feed: EventFeed;
  #position: number;
  #isAhead: boolean;

  constructor(feed: EventFeed, position: number) {
    this.#feed = feed;
    this.#position = position;
    this.#isAhead = position > feed.lastSeq;
  }

  /** The number of the last event that it was given, or that it asked to go on after. */
  get position(): number {
    return this.#position;
  }

  /**
   * What follows, as soon as there is something; no events when there was nothing in `patienceMs`, or until `signal`.
   * One call at a time.
   *
   * @throws StorageUnavailableError when the journal cannot be read.
   */
  async next(patienceMs: number, signal: AbortSignal): Promise<Page> {
    while (!signal.aborted) {
      if (this.#isAhead) return this.#comeBack(signal);
      if (this.#position < this.#feed.lastSeq) {
        const events = this.#feed.recent(this.#position);
        if (events.length > 0) return this.#advance(events);
        const page = await this.#replay(signal);
        if (page !== null) return page;
      } else if ((await this.#feed.news(patienceMs, signal)) === "none") break;
    }
    return NOTHING;
  }

  close(): void {
    this.#feed.closed();
  }

  /** `null`: there is nothing to tell, and the reader goes on from where it is now. */
  async #replay(signal: AbortSignal): Promise<Page | null> {
    const entries = await this.#feed.journal(this.#position, PAGE_EVENTS, signal);
    if (signal.aborted) return null;
    const oldestSeq = entries[0]?.seq ?? null;
    if (oldestSeq === this.#position + 1) return this.#advance(this.#feed.told(entries));
    const needsReset = this.#position > 0;
    this.#position = oldestSeq === null ? this.#feed.lastSeq : oldestSeq - 1;
    return needsReset ? this.#reset("trimmed", oldestSeq) : null;
  }

  /** Its events are none of this journal's: a backup was restored. It goes on with what is still to come. */
  async #comeBack(signal: AbortSignal): Promise<Page> {
    const [oldest] = await this.#feed.journal(0, 1, signal);
    if (signal.aborted) return NOTHING;
    this.#isAhead = false;
    this.#position = this.#feed.lastSeq;
    return this.#reset("ahead", oldest?.seq ?? null);
  }

  #advance(events: readonly PublicEvent[]): Page {
    this.#position = events.at(-1)?.seq ?? this.#position;
    return { events };
  }

  #reset(reason: Reset["reason"], oldestSeq: number | null): Page {
    return { reset: { reason, oldestSeq, lastSeq: this.#feed.lastSeq, position: this.#position } };
  }
}
