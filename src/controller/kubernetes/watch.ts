/**
 * Everything of one kind, kept up to date.
 *
 *  1. A list, page by page, then a watch from where it ended; bookmarks move that point on.
 *  2. A watch that the server ends goes on from there at once. One that breaks, or ends before it has said anything, goes
 *     on from there too, with growing pauses: a server that is in trouble is not asked harder. Only one that is too old
 *     (410) is listed anew.
 *  3. One that says nothing for {@link SILENCE_MS}, not even a bookmark, is dead, whatever its connection says.
 */
import { keyOf } from "../objects/meta.ts";
import { type KubeConnection, KubeError } from "./connection.ts";

export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly generation?: number;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly creationTimestamp: string;
    readonly deletionTimestamp?: string;
    readonly finalizers?: readonly string[];
  };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
}

interface List {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly KubeObject[];
}

interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: KubeObject & { readonly code?: number; readonly message?: string };
}

const PAGE = "500";
const SILENCE_MS = 90_000;
const WATCH_SECONDS = "300";
const FIRST_PAUSE_MS = 800;
const LONGEST_PAUSE_MS = 30_000;

export interface WatchOptions {
  readonly labelSelector?: string;
  /** @param before and `after` are of one object; `undefined`: it was not there, or is no more. Neither: it was something else. */
  readonly changed: (before?: KubeObject, after?: KubeObject) => void;
  readonly silenceMs?: number;
  /** What is kept of an object: a cluster has thousands. */
  readonly kept?: (object: KubeObject) => KubeObject;
}

export class Watch {
  readonly #connection: KubeConnection;
  readonly #path: string;
  readonly #options: WatchOptions;
  readonly #objects = new Map<string, KubeObject>();
  readonly #stop = new AbortController();
  #version: string | null = null;
  #pauseMs = FIRST_PAUSE_MS;
  #done: Promise<void> = Promise.resolve();
  /** Why it is not up to date; `null`: it is. */
  trouble: string | null = "not listed yet";
  #isForbidden = false;
  lists = 0;
  /** Grows with each change of what is known. */
  changes = 0;

  constructor(connection: KubeConnection, path: string, options: WatchOptions) {
    this.#connection = connection;
    this.#path = path;
    this.#options = options;
  }

  get path(): string {
    return this.#path;
  }

  /** The right to read it is missing: the server answers, and will not. */
  get isForbidden(): boolean {
    return this.trouble !== null && this.#isForbidden;
  }

  start(): void {
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  all(): readonly KubeObject[] {
    return [...this.#objects.values()];
  }

  get(namespace: string, name: string): KubeObject | undefined {
    return this.#objects.get(keyOf({ namespace, name }));
  }

  /** What a write has answered: it need not be waited for. Where the watch has come further it knows better, or that it is gone. */
  learn(object: KubeObject): void {
    if (isLater(this.#version ?? "", object.metadata.resourceVersion)) return;
    this.#objects.set(keyOf(object.metadata), this.#kept(object));
    this.changes++;
  }

  #kept(object: KubeObject): KubeObject {
    const { kept = (one) => one } = this.#options;
    return kept(slim(object));
  }

  /** A write has answered with a later version than that which the watch has come to, be it of one that was made again. */
  #isKnownLater({ metadata }: KubeObject): boolean {
    const known = this.#objects.get(keyOf(metadata))?.metadata;
    return known !== undefined && isLater(known.resourceVersion, metadata.resourceVersion);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        if (this.#version === null) await this.#list();
        if (!(await this.#follow())) await this.#pause();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof KubeError && error.status === 410) this.#version = null;
        this.#failed(error as Error);
        await this.#pause(error instanceof KubeError ? error.retryAfterMs : null);
      }
    }
  }

  /** @param askedMs is the server's wish; `null`: it has none. */
  async #pause(askedMs: number | null = null): Promise<void> {
    await sleep(askedMs ?? this.#pauseMs * jitter(), this.#stop.signal);
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
  }

  #failed(error: Error): void {
    this.trouble = `${this.#path}: ${error.message}`;
    this.#isForbidden = error instanceof KubeError && error.status === 403;
    this.#options.changed();
  }

  async #list(): Promise<void> {
    const { labelSelector } = this.#options;
    const found = new Map<string, KubeObject>();
    let next: string | undefined;
    let version = "";
    do {
      const page: List = await this.#connection.call(this.#path, {
        query: {
          limit: PAGE,
          ...(labelSelector === undefined ? {} : { labelSelector }),
          ...(next === undefined ? {} : { continue: next }),
        },
        signal: this.#stop.signal,
      });
      if (!Array.isArray(page.items) || typeof page.metadata?.resourceVersion !== "string")
        throw new Error("no list was answered");
      for (const object of page.items) found.set(keyOf(object.metadata), this.#kept(object));
      next = page.metadata.continue;
      version = page.metadata.resourceVersion;
    } while (next !== undefined && next !== "");
    this.#objects.clear();
    for (const [key, object] of found) this.#objects.set(key, object);
    this.#version = version;
    this.lists++;
    this.changes++;
    this.trouble = null;
    this.#options.changed();
  }

  /** @returns false when the server ended it at once, and said nothing. */
  async #follow(): Promise<boolean> {
    const startedAt = performance.now();
    let hasSpoken = false;
    const { labelSelector, silenceMs = SILENCE_MS } = this.#options;
    const silent = new AbortController();
    let timer = setTimeout(() => silent.abort(), silenceMs);
    const query = {
      watch: "true",
      allowWatchBookmarks: "true",
      timeoutSeconds: WATCH_SECONDS,
      resourceVersion: this.#version ?? "",
      ...(labelSelector === undefined ? {} : { labelSelector }),
    };
    try {
      const signal = AbortSignal.any([silent.signal, this.#stop.signal]);
      const opened = () => this.#opened();
      for await (const event of this.#connection.stream(this.#path, query, signal, opened)) {
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), silenceMs);
        this.#take(event as WatchEvent);
        hasSpoken = true;
        this.#pauseMs = FIRST_PAUSE_MS;
      }
    } catch (error) {
      // A dead stream is opened again where it stood: nothing is lost, for nothing was said.
      if (!silent.signal.aborted || this.#stop.signal.aborted) throw error;
    } finally {
      clearTimeout(timer);
    }
    this.trouble = null;
    return hasSpoken || performance.now() - startedAt >= FIRST_PAUSE_MS;
  }

  /** A kind of which nothing changes says nothing for a minute: that is no reason to wait for it. */
  #opened(): void {
    if (this.trouble === null) return;
    this.trouble = null;
    this.#options.changed();
  }

  #take({ type, object }: WatchEvent): void {
    if (type === "ERROR") throw new KubeError(object.code ?? 500, { message: object.message ?? "" }, null);
    // From nowhere it could not go on: what has gone meanwhile would never be told.
    if (typeof object?.metadata?.resourceVersion !== "string") throw new Error("an event has no resourceVersion");
    this.#version = object.metadata.resourceVersion;
    this.trouble = null;
    if (type === "BOOKMARK") return;
    this.changes++;
    const key = keyOf(object.metadata);
    const before = this.#objects.get(key);
    if (!this.#isKnownLater(object)) {
      if (type === "DELETED") this.#objects.delete(key);
      else this.#objects.set(key, this.#kept(object));
    }
    this.#options.changed(before, this.#objects.get(key));
  }
}

/** Versions of one kind of object are whole numbers that grow (KEP 5504); others are not told apart. */
function isLater(one: string, other: string): boolean {
  const isNumber = /^\d{1,30}$/;
  return isNumber.test(one) && isNumber.test(other) && BigInt(one) > BigInt(other);
}

/** Who wrote which field is most of an object, and nobody here reads it. */
function slim(object: KubeObject): KubeObject {
  delete (object.metadata as { managedFields?: unknown }).managedFields;
  return object;
}

function jitter(): number {
  return 0.75 + Math.random() / 2;
}

/** Ends early, and never rejects, when `signal` is aborted. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
