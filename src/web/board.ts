/**
 * What the page knows, kept up to date.
 *
 *  1. The list of the daemon is the truth; events only say that it has changed. It is fetched again then, never twice at
 *     a time, and the less often the longer it takes.
 *  2. Readings bring figures and states without a fetch.
 *  3. Work has a list of its own, with the same in it: the stream says that it has changed.
 *  4. The stream goes on behind the list's last event: what happens between the two is not missed.
 */
import type { List, Me, Reading, Work } from "./api/answers.ts";
import type { Link } from "./api/follow.ts";
import { type Api, ApiError } from "./api/http.ts";
import type { Message } from "./api/messages.ts";
import { type EventLine, eventLine } from "./model/events.ts";
import { withReading } from "./model/host.ts";
import { appended } from "./model/series.ts";
import { Pace, type PaceParts } from "./pace.ts";

export interface View {
  /** Whether there is something to show, or a key is wanted first. */
  readonly phase: "starting" | "key" | "open";
  /** Why a key is asked for again, or why nothing comes; `null`: all is well. */
  readonly problem: string | null;
  readonly me: Me | null;
  readonly list: List | null;
  readonly reading: Reading | null;
  readonly link: Link;
  /** Newest first. */
  readonly events: readonly EventLine[];
  /** Utilisation of each GPU by its UUID, oldest first. */
  readonly series: ReadonlyMap<string, readonly (number | null)[]>;
  /** Grows when something has happened: what is shown beside the list is fetched anew then. */
  readonly revision: number;
  /** `null`: the daemon runs none, or it has not come yet. */
  readonly work: Work | null;
  /** Grows with each look at the work. */
  readonly workRevision: number;
}

export interface BoardParts extends PaceParts {
  readonly api: Api;
  /** Receives the stream behind that event until the signal; see lead.ts. */
  readonly receive: (
    after: number,
    onMessage: (message: Message) => void,
    onLink: (link: Link) => void,
    signal: AbortSignal,
  ) => Promise<void>;
}

/** Events that are shown from before the page was opened, and all that are kept, most. */
const EARLIER = 200;
const MAX_EVENTS = 400;
/** What only time changes, such as estimates, is fetched this often, in ms. */
const STALE_MS = 30_000;
/** A daemon that does not answer is asked again so often, in ms. */
const RETRY_MS = 1_000;

const START: View = {
  phase: "starting",
  problem: null,
  me: null,
  list: null,
  reading: null,
  link: "connecting",
  events: [],
  series: new Map(),
  revision: 0,
  work: null,
  workRevision: 0,
};

export class Board {
  readonly #parts: BoardParts;
  readonly #watchers = new Set<() => void>();
  #view: View = START;
  #ending: AbortController | null = null;
  readonly #list: Pace;
  readonly #work: Pace;

  constructor(parts: BoardParts) {
    this.#parts = parts;
    this.#list = new Pace(parts, () => this.#fetch());
    this.#work = new Pace(parts, () => this.#fetchWork());
  }

  get view(): View {
    return this.#view;
  }

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Begins, or begins anew: with another key, or after a rest. */
  async start(): Promise<void> {
    this.stop();
    const ending = new AbortController();
    this.#ending = ending;
    const { signal } = ending;
    while (!signal.aborted) {
      try {
        const [me, list] = await Promise.all([
          this.#parts.api.get<Me>("/gpu/me"),
          this.#parts.api.get<List>("/gpu/list"),
        ]);
        if (signal.aborted) return;
        this.#show({ phase: "open", problem: null, me, list, revision: this.#view.revision + 1 });
        break;
      } catch (error) {
        if (signal.aborted || this.#isRefused(error)) return;
        this.#show({ problem: said(error), link: "lost" });
        await new Promise<void>((resolve) => this.#parts.after(RETRY_MS, resolve));
      }
    }
    if (signal.aborted) return;
    this.#beat(signal);
    this.#refreshWork();
    await this.#receive(signal);
  }

  stop(): void {
    this.#ending?.abort();
    this.#ending = null;
    this.#list.rest();
    this.#work.rest();
  }

  /** Looks again soon: something was done, or has happened. */
  refresh(): void {
    if (this.#ending !== null) this.#list.want();
  }

  #refreshWork(): void {
    if (this.#ending !== null && this.#view.me?.work === true) this.#work.want();
  }

  async #receive(signal: AbortSignal): Promise<void> {
    const last = this.#view.list?.last_event_id ?? 0;
    const seen = this.#view.events[0]?.id ?? Math.max(0, last - EARLIER);
    await this.#parts.receive(
      seen,
      (message) => this.#hear(message),
      (link) => {
        // What happened while nothing was heard is in the list, whether the stream still has it or not.
        if (link === "live" && this.#view.link === "lost") this.#refreshAll();
        this.#show({ link });
      },
      signal,
    );
  }

  #hear(message: Message): void {
    if (message.event === "reading") this.#read(message.data);
    else if (message.event === "work") this.#refreshWork();
    else if (message.event === "reset") {
      this.#show({ events: [] });
      this.#refreshAll();
    } else if (message.event !== "" && message.id !== null) {
      const line = eventLine(message.id, message.event, message.data);
      if (line === null) return;
      this.#show({ events: [line, ...this.#view.events].slice(0, MAX_EVENTS) });
      if (message.id > (this.#view.list?.last_event_id ?? 0)) this.refresh();
    }
  }

  #refreshAll(): void {
    this.refresh();
    this.#refreshWork();
  }

  #read(data: string): void {
    const reading = JSON.parse(data) as Reading;
    const { list, series } = this.#view;
    if (list === null) return;
    const { list: now, moved } = withReading(list, reading);
    const values = new Map<string, readonly (number | null)[]>();
    for (const { uuid, utilization } of reading.gpus) values.set(uuid, appended(series.get(uuid) ?? [], utilization));
    this.#show({ list: now, reading, series: values });
    if (moved) this.refresh();
  }

  async #fetch(): Promise<void> {
    const { api } = this.#parts;
    const signal = this.#ending?.signal;
    try {
      const [list, me] = await Promise.all([api.get<List>("/gpu/list"), api.get<Me>("/gpu/me")]);
      if (signal?.aborted !== false) return;
      const work = me.work ? this.#view.work : null;
      this.#show({ list, me, work, problem: null, revision: this.#view.revision + 1 });
    } catch (error) {
      if (signal?.aborted === false && !this.#isRefused(error)) this.#show({ problem: said(error) });
    }
  }

  async #fetchWork(): Promise<void> {
    const signal = this.#ending?.signal;
    try {
      const work = await this.#parts.api.get<Work>("/work");
      if (signal?.aborted === false) this.#show({ work, workRevision: this.#view.workRevision + 1 });
    } catch (error) {
      if (signal?.aborted === false && !this.#isRefused(error)) this.#show({ problem: said(error) });
    }
  }

  #beat(signal: AbortSignal): void {
    this.#parts.after(STALE_MS, () => {
      if (signal.aborted) return;
      if ((this.#view.list?.queue.length ?? 0) > 0) this.refresh();
      this.#beat(signal);
    });
  }

  #isRefused(error: unknown): boolean {
    if (!(error instanceof ApiError) || error.status !== 401) return false;
    this.stop();
    this.#view = START;
    this.#show({ phase: "key", problem: error.message });
    return true;
  }

  #show(change: Partial<View>): void {
    this.#view = { ...this.#view, ...change };
    for (const watcher of this.#watchers) watcher();
  }
}

function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
