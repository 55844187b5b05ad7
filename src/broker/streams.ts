/**
 * The streams between controller and nodes.
 *
 *  1. A message is acknowledged and deleted after its receiver has stored what follows from it. What an earlier process of
 *     the same receiver has left unacknowledged is read first.
 *  2. Redis only carries. When its streams or groups are gone, or another Redis has taken its place, the groups are made
 *     anew and `restored` is called: both sides then say again what is open.
 */
import type { Clock } from "../platform/clock.ts";
import { type Connect, connectRedis, type Redis, RedisRefusedError, type RedisReply } from "./connection.ts";
import { fieldsIn } from "./flat.ts";
import { type Message, opened, signed } from "./messages.ts";

const BLOCK_MS = 2_000;
/** Read and acknowledged at once. */
const BATCH = 20;
/** Of a stream that nobody reads: what is read is deleted. */
const MAX_LENGTH = 10_000;
const PAUSE_MS = 500;

export interface Log {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export interface StreamSettings {
  readonly url: string;
  readonly secret: Buffer;
  /** What is read, in whose name. */
  readonly stream: string;
  readonly group: "node" | "controller";
  /** Before anything is read. @throws Error when it is another's to read. */
  readonly admit?: (redis: Redis) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
  /** Left out: a real Redis. */
  readonly connect?: Connect;
}

export interface Receiver {
  /** Takes one message; what it throws leaves the message to be read again. */
  take(message: Message): void | Promise<void>;
  /** The streams may have lost what was written to them. */
  restored(): void;
}

export class Streams {
  readonly #settings: StreamSettings;
  readonly #receiver: Receiver;
  readonly #connect: Connect;
  /** Of reading, and of everything. */
  readonly #ending = new AbortController();
  readonly #closing = new AbortController();
  #reading: Redis | null = null;
  #writing: Promise<Redis> | null = null;
  #loop: Promise<void> | null = null;
  #saidDown = false;
  #isReading = false;
  /** What was sent last was taken: a Redis that is full answers all the same. */
  #isTaken = true;

  constructor(settings: StreamSettings, receiver: Receiver) {
    this.#settings = settings;
    this.#receiver = receiver;
    this.#connect = settings.connect ?? connectRedis;
  }

  get up(): boolean {
    return this.#isReading && this.#isTaken;
  }

  get isReading(): boolean {
    return this.#isReading;
  }

  start(): void {
    this.#loop = this.#run();
  }

  /** Takes no more messages: what is taken by then has been stored. It can still send. */
  async quiet(): Promise<void> {
    this.#ending.abort();
    this.#reading?.close();
    await this.#loop;
  }

  /** As after a break: whoever may not read any more is not admitted again. */
  readAnew(): void {
    this.#reading?.close();
  }

  async stop(): Promise<void> {
    this.#closing.abort();
    await this.#writing?.then(
      (redis) => redis.close(),
      () => undefined,
    );
    await this.quiet();
  }

  /** @returns false when Redis could not take it. It is said again later, as everything that is open. */
  async send(stream: string, message: Message): Promise<boolean> {
    const fields = signed(message, stream, this.#settings.secret);
    this.#isTaken = (await this.call(["XADD", stream, "MAXLEN", "~", String(MAX_LENGTH), "*", ...fields])) !== null;
    return this.#isTaken;
  }

  /** @returns `null` when Redis could not be asked. */
  async call(args: readonly string[]): Promise<RedisReply> {
    if (this.#closing.signal.aborted) return null;
    this.#writing ??= this.#connect(this.#settings.url, this.#closing.signal);
    const writing = this.#writing;
    try {
      return await (await writing).call(args);
    } catch {
      // Whatever it was, the next call begins afresh.
      if (this.#writing === writing) this.#writing = null;
      writing.then(
        (redis) => redis.close(),
        () => undefined,
      );
      return null;
    }
  }

  async #run(): Promise<void> {
    const { log } = this.#settings;
    while (!this.#ending.signal.aborted) {
      try {
        await this.#session();
      } catch (error) {
        this.#reading?.close();
        this.#reading = null;
        this.#isReading = false;
        if (this.#ending.signal.aborted) return;
        if (!this.#saidDown) log.warn({ err: error }, "the link over Redis broke: what runs goes on");
        this.#saidDown = true;
        if (error instanceof RedisRefusedError) log.error({ err: error }, "this Redis cannot be used");
        await this.#pause();
      }
    }
  }

  #pause(): Promise<void> {
    const { signal } = this.#ending;
    return new Promise((resolve) => {
      const done = () => {
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const cancel = this.#settings.clock.after(PAUSE_MS, done);
      signal.addEventListener("abort", done);
    });
  }

  /** Reads until something goes wrong. */
  async #session(): Promise<void> {
    const { url, stream, log } = this.#settings;
    const redis = await this.#connect(url, this.#ending.signal);
    this.#reading = redis;
    await this.#settings.admit?.(redis);
    await this.#makeGroup(redis);
    this.#ending.signal.throwIfAborted();
    if (this.#saidDown) log.info({ stream }, "Redis is there again");
    this.#saidDown = false;
    this.#isReading = true;
    this.#isTaken = true;
    this.#receiver.restored();
    // Its own, which an earlier process has read and not acknowledged.
    let from = "0";
    while (!this.#ending.signal.aborted) {
      const entries = await this.#read(redis, from);
      if (entries === null) {
        await this.#makeGroup(redis);
        this.#receiver.restored();
        from = "0";
        continue;
      }
      if (from === "0" && entries.length === 0) from = ">";
      await this.#takeAll(redis, entries);
    }
  }

  async #makeGroup(redis: Redis): Promise<void> {
    const { stream, group } = this.#settings;
    try {
      await redis.call(["XGROUP", "CREATE", stream, group, "0", "MKSTREAM"]);
    } catch (error) {
      if (String(error).includes("BUSYGROUP")) return;
      // One that is full makes nothing, and has room again when what lies there is read.
      if (!isFull(error) || !(await hasGroup(redis, stream, group))) throw error;
    }
  }

  /** @returns `null`: the group is gone. */
  async #read(redis: Redis, from: string): Promise<[string, readonly string[]][] | null> {
    const { stream, group } = this.#settings;
    const block = from === ">" ? ["BLOCK", String(BLOCK_MS)] : [];
    try {
      const args = ["XREADGROUP", "GROUP", group, group, "COUNT", String(BATCH), ...block, "STREAMS", stream, from];
      return entriesIn(await redis.call(args, BLOCK_MS));
    } catch (error) {
      if (/NOGROUP|UNBLOCKED/.test(String(error))) return null;
      throw error;
    }
  }

  /** What comes after one that cannot be taken is read again with it. */
  async #takeAll(redis: Redis, entries: readonly [string, readonly string[]][]): Promise<void> {
    const { stream, group } = this.#settings;
    const taken: string[] = [];
    try {
      for (const [id, fields] of entries) {
        await this.#take(id, fields);
        taken.push(id);
      }
    } finally {
      if (taken.length > 0) {
        // Each stream has one reader. A Redis that is full takes this too, and has room again. First, since what is
        // acknowledged is never read again, and would lie there for ever.
        await redis.call(["XDEL", stream, ...taken]);
        await redis.call(["XACK", stream, group, ...taken]);
      }
    }
  }

  async #take(id: string, fields: readonly string[]): Promise<void> {
    const { stream, secret, log } = this.#settings;
    const message = opened(fields, stream, secret);
    if (message !== null) await this.#receiver.take(message);
    // One without fields was trimmed away meanwhile.
    else if (fields.length > 0)
      log.error({ stream, id }, "a message is not of somebody who has the secret, and is dropped");
  }
}

/** Redis has no memory left, and refuses what would take more. */
export function isFull(error: unknown): boolean {
  return String(error).includes("OOM ");
}

async function hasGroup(redis: Redis, stream: string, group: string): Promise<boolean> {
  const found = (await redis.call(["XINFO", "GROUPS", stream])) as readonly (readonly string[])[];
  return found.some((fields) => fieldsIn(fields).get("name") === group);
}

/** Entries whose fields are gone were trimmed away: there is nothing to take. */
function entriesIn(reply: RedisReply): [string, readonly string[]][] {
  const [found] = (reply ?? []) as readonly (readonly [string, readonly [string, readonly string[] | null][]])[];
  return (found?.[1] ?? []).map(([id, fields]) => [id, fields ?? []]);
}
