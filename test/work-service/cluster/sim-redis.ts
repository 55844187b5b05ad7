/**
 * A Redis as far as controller and nodes use it, which loses, repeats, forgets and falls back to a replica that was
 * behind. Each of its users can be cut off, with an error or in silence.
 */
import type { Connect, Redis, RedisReply } from "../../../src/broker/connection.ts";
import type { SimProcess, VirtualTime } from "./time.ts";

interface Entry {
  readonly id: number;
  readonly fields: readonly string[];
}

interface Group {
  delivered: number;
  readonly pending: Set<number>;
}

interface Stream {
  lastId: number;
  entries: Entry[];
  readonly groups: Map<string, Group>;
}

interface Store {
  readonly streams: Map<string, Stream>;
  readonly texts: Map<string, { readonly value: string; readonly until: number }>;
}

interface Reader {
  readonly stream: string;
  readonly look: () => void;
  readonly fail: (why: string) => void;
}

/** How a user's way to Redis is: `slow` takes seconds, `refused` says so at once, and `mute` lets every call run out of time. */
export type Way = "open" | "slow" | "refused" | "mute";
/** Where the next call of this name breaks its connection. */
export interface Break {
  readonly command: string;
  readonly isDone: boolean;
}

const ANSWER_MS = 10_000;
const LATENCY_MS = 20;
const SLOW_MS = 6_000;
const KEPT_STORES = 40;
const KEPT_MESSAGES = 400;
const LATEST_MESSAGES = 12;

export interface Sent {
  readonly stream: string;
  readonly fields: readonly string[];
}

export class SimRedis {
  readonly #time: VirtualTime;
  #store: Store = { streams: new Map(), texts: new Map() };
  /** As a replica that is behind has it. */
  readonly #earlier: Store[] = [];
  /** The first that were sent, and the last, for who copies them. */
  readonly sent: Sent[] = [];
  readonly #latest: Sent[] = [];
  readonly held: Sent[] = [];
  readonly #written = new Map<string, number>();
  /** They write, and read nothing. */
  readonly blind = new Set<string>();
  readonly #holding = new Set<string>();
  readonly #readers = new Set<Reader>();
  readonly #connections = new Map<() => void, string>();
  readonly #ways = new Map<string, Way>();
  readonly breaks = new Map<string, Break>();
  isUp = true;
  isFull = false;
  /** Looks on at what is written and what is read by whom, and takes no part. */
  onSent: (stream: string, fields: readonly string[]) => void = () => undefined;
  onRead: (user: string, fields: readonly string[]) => void = () => undefined;

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  // --- what happens to it ---

  set(user: string, way: Way): void {
    this.#ways.set(user, way);
    if (way === "refused") for (const [close, whose] of [...this.#connections]) if (whose === user) close();
  }

  crash(): void {
    this.isUp = false;
    this.#closeAll();
  }

  begin(isEmpty: boolean): void {
    if (isEmpty) this.#store = { streams: new Map(), texts: new Map() };
    this.isUp = true;
  }

  flush(): void {
    this.#store = { streams: new Map(), texts: new Map() };
    for (const reader of [...this.#readers]) reader.fail("UNBLOCKED the stream key no longer exists");
  }

  /** One stream is gone, with what lay there. */
  lose(stream: string): void {
    this.#store.streams.delete(stream);
    this.#unblock(stream);
  }

  /** Another takes its place, which had not heard of the last changes: what was deleted is there again. */
  failOver(changes: number): void {
    const at = Math.max(0, this.#earlier.length - 1 - changes);
    this.#store = this.#earlier[at] ?? this.#store;
    this.#earlier.length = Math.min(this.#earlier.length, at);
    this.#closeAll();
  }

  /** Somebody who has kept a message writes it again. */
  copy(pick: number): void {
    this.write(this.sent[pick % Math.max(1, this.sent.length)]);
  }

  copyLate(pick: number): void {
    this.write(this.#latest[pick % Math.max(1, this.#latest.length)]);
  }

  write(message: Sent | undefined): void {
    if (message !== undefined && this.isUp) this.#add(message.stream, message.fields);
  }

  /** The next message to it is held up. */
  hold(stream: string): void {
    this.#holding.add(stream);
  }

  /** What was held up arrives, after what was sent later. */
  release(): void {
    this.#holding.clear();
    for (const message of this.held.splice(0)) this.write(message);
  }

  /** The oldest go, as from a stream that is too long. */
  trim(pick: number, count: number): void {
    const names = [...this.#store.streams.keys()].sort();
    this.#store.streams.get(names[pick % Math.max(1, names.length)] ?? "")?.entries.splice(0, count);
  }

  lengthOf(stream: string): number {
    return this.#streamOf(stream)?.entries.length ?? 0;
  }

  /** How many of a type were ever written. */
  written(stream: string, type: string, node: string): number {
    return this.#written.get(`${stream} ${type} ${node}`) ?? 0;
  }

  /** What lies there, and what was read and never acknowledged. */
  waiting(): number {
    const streams = [...this.#store.streams.values()];
    const pending = streams.flatMap(({ groups }) => [...groups.values()].map((group) => group.pending.size));
    return streams.reduce((sum, { entries }) => sum + entries.length, 0) + pending.reduce((sum, one) => sum + one, 0);
  }

  #closeAll(): void {
    for (const close of [...this.#connections.keys()]) close();
  }

  // --- what its users do ---

  connector(user: string, process: SimProcess): Connect {
    return async (_url, signal) => {
      await this.#travel(user, process, 0);
      signal.throwIfAborted();
      if (!this.isUp || (this.#wayOf(user) !== "open" && this.#wayOf(user) !== "slow")) throw new Error("no Redis");
      return this.#connection(user, process);
    };
  }

  #wayOf(user: string): Way {
    return this.#ways.get(user) ?? "open";
  }

  /** There and back. Who has died meanwhile hears nothing any more. */
  #travel(user: string, process: SimProcess, blockMs: number): Promise<void> {
    const way = this.#wayOf(user);
    const ms =
      way === "mute" ? blockMs + ANSWER_MS : Math.ceil(this.#time.chance() * (way === "slow" ? SLOW_MS : LATENCY_MS));
    return new Promise((resolve) => process.after(ms, resolve));
  }

  #connection(user: string, process: SimProcess): Redis {
    let isOpen = true;
    const waits = new Set<(error: Error) => void>();
    const close = () => {
      isOpen = false;
      this.#connections.delete(close);
      for (const fail of [...waits]) fail(new Error("the connection is closed"));
    };
    this.#connections.set(close, user);
    process.onDeath(() => {
      isOpen = false;
      waits.clear();
      this.#connections.delete(close);
    });
    const call = async (args: readonly string[], blockMs = 0): Promise<RedisReply> => {
      const closed = new Promise<never>((_, reject) => waits.add(reject));
      closed.catch(() => undefined);
      return await Promise.race([closed, this.#answer(user, process, args, blockMs, () => isOpen, close)]);
    };
    return {
      call,
      subscribe: async () => undefined,
      get isOpen() {
        return isOpen;
      },
      close,
    };
  }

  async #answer(
    user: string,
    process: SimProcess,
    args: readonly string[],
    blockMs: number,
    isOpen: () => boolean,
    close: () => void,
  ): Promise<RedisReply> {
    if (!isOpen()) throw new Error("the connection is closed");
    const point = this.breaks.get(user);
    const breaksHere = point?.command === args[0];
    if (breaksHere) this.breaks.delete(user);
    const isMute = this.#wayOf(user) === "mute";
    if (isMute || (breaksHere && point?.isDone === false)) {
      if (isMute) await this.#travel(user, process, blockMs);
      close();
      throw new Error("it did not answer");
    }
    // It may be refused: then too it has travelled.
    const isBlind = args[0] === "XREADGROUP" && this.blind.has(user);
    const answer = isBlind
      ? new Promise<RedisReply>((resolve) => process.after(blockMs, () => resolve(null)))
      : this.#run(args, process, () => isOpen() && !this.blind.has(user));
    const done = answer.then(
      (reply) => ({ reply }),
      (error: unknown) => ({ error }),
    );
    if (breaksHere) {
      await done;
      close();
      throw new Error("its answer was lost");
    }
    const result = await done;
    await this.#travel(user, process, 0);
    if (this.#wayOf(user) === "mute") await this.#travel(user, process, blockMs);
    if ("error" in result) throw result.error;
    if (args[0] === "XREADGROUP") for (const fields of entriesOf(result.reply)) this.onRead(user, fields);
    return result.reply;
  }

  // --- its commands ---

  async #run(args: readonly string[], process: SimProcess, isOpen: () => boolean): Promise<RedisReply> {
    const [name = "", key = ""] = args;
    if (name === "XREADGROUP") return this.#read(args, process, isOpen);
    if (name === "GET") return this.#text(key);
    if (name === "XLEN") return this.#streamOf(key)?.entries.length ?? 0;
    if (name === "XINFO")
      return [...(this.#streamOf(args[2] ?? "")?.groups.keys() ?? [])].map((group) => ["name", group]);
    if (this.isFull && ["XADD", "SET", "XGROUP"].includes(name)) throw new Error("OOM command not allowed");
    const reply = this.#change(args);
    this.#keep();
    return reply;
  }

  #change(args: readonly string[]): RedisReply {
    const [name, key = ""] = args;
    const { streams, texts } = this.#store;
    if (name === "XADD") return this.#add(key, args.slice(args.indexOf("*") + 1));
    if (name === "XGROUP") return this.#makeGroup(args[2] ?? "", args[3] ?? "");
    if (name === "XACK") {
      const pending = streams.get(key)?.groups.get(args[2] ?? "")?.pending;
      for (const id of args.slice(3)) pending?.delete(Number(id));
      return 1;
    }
    if (name === "XDEL") {
      const [stream, gone] = [streams.get(key), new Set(args.slice(2).map(Number))];
      if (stream !== undefined) stream.entries = stream.entries.filter(({ id }) => !gone.has(id));
      return 1;
    }
    if (name === "DEL") {
      texts.delete(key);
      if (streams.delete(key)) this.#unblock(key);
      return 1;
    }
    if (name === "PEXPIRE") {
      const value = this.#text(key);
      if (value !== null) texts.set(key, { value, until: this.#time.now + Number(args[2]) });
      return 1;
    }
    if (name === "SET") {
      if (args.includes("NX") && this.#text(key) !== null) return null;
      texts.set(key, { value: args[2] ?? "", until: this.#time.now + Number(args[args.indexOf("PX") + 1]) });
      return "OK";
    }
    throw new Error(`the simulated Redis does not know ${name}`);
  }

  #text(key: string): string | null {
    const found = this.#store.texts.get(key);
    return found === undefined || found.until <= this.#time.now ? null : found.value;
  }

  #streamOf(key: string): Stream | undefined {
    return this.#store.streams.get(key);
  }

  #add(key: string, fields: readonly string[]): string {
    const stream: Stream = this.#streamOf(key) ?? { lastId: 0, entries: [], groups: new Map() };
    this.#store.streams.set(key, stream);
    const id = ++stream.lastId;
    if (this.sent.length < KEPT_MESSAGES) this.sent.push({ stream: key, fields });
    this.#latest.push({ stream: key, fields });
    if (this.#latest.length > LATEST_MESSAGES) this.#latest.shift();
    this.onSent(key, fields);
    const kind = `${key} ${fieldOf(fields, "type")} ${fieldOf(fields, "node")}`;
    this.#written.set(kind, (this.#written.get(kind) ?? 0) + 1);
    if (this.#holding.delete(key)) {
      this.held.push({ stream: key, fields });
      return String(id);
    }
    stream.entries.push({ id, fields });
    for (const reader of [...this.#readers]) if (reader.stream === key) reader.look();
    return String(id);
  }

  #makeGroup(key: string, group: string): string {
    const stream: Stream = this.#streamOf(key) ?? { lastId: 0, entries: [], groups: new Map() };
    this.#store.streams.set(key, stream);
    if (stream.groups.has(group)) throw new Error("BUSYGROUP");
    stream.groups.set(group, { delivered: 0, pending: new Set() });
    return "OK";
  }

  async #read(args: readonly string[], process: SimProcess, isOpen: () => boolean): Promise<RedisReply> {
    const key = args.at(-2) ?? "";
    const from = args.at(-1);
    const block = args.indexOf("BLOCK");
    const groupOf = () => this.#streamOf(key)?.groups.get(args[2] ?? "");
    const group = groupOf();
    if (group === undefined) throw new Error("NOGROUP");
    const entryOf = (id: number) => this.#streamOf(key)?.entries.find((entry) => entry.id === id);
    if (from === "0") {
      return [[key, [...group.pending].sort((a, b) => a - b).map((id) => [String(id), entryOf(id)?.fields ?? null])]];
    }
    const fresh = (): RedisReply => {
      const now = groupOf();
      const all: readonly Entry[] = this.#streamOf(key)?.entries ?? [];
      const entries = all.filter(({ id }) => now !== undefined && id > now.delivered);
      for (const { id } of entries) {
        (now as Group).delivered = id;
        (now as Group).pending.add(id);
      }
      return entries.length === 0 ? null : [[key, entries.map((entry) => [String(entry.id), entry.fields])]];
    };
    const found = fresh();
    if (found !== null || block < 0) return found;
    return await new Promise((resolve, reject) => {
      const end = (act: () => void) => {
        this.#readers.delete(reader);
        cancel();
        act();
      };
      const reader: Reader = {
        stream: key,
        // One whose connection has gone takes nothing.
        look: () => (isOpen() ? end(() => resolve(fresh())) : this.#readers.delete(reader)),
        fail: (why) => end(() => reject(new Error(why))),
      };
      const cancel = process.after(Number(args[block + 1]), () => end(() => resolve(null)));
      this.#readers.add(reader);
    });
  }

  #unblock(key: string): void {
    for (const reader of [...this.#readers]) {
      if (reader.stream === key) reader.fail("UNBLOCKED the stream key no longer exists");
    }
  }

  #keep(): void {
    const streams = new Map(
      [...this.#store.streams].map(([key, { lastId, entries, groups }]) => [
        key,
        {
          lastId,
          entries: [...entries],
          groups: new Map(
            [...groups].map(([name, { delivered, pending }]) => [name, { delivered, pending: new Set(pending) }]),
          ),
        },
      ]),
    );
    this.#earlier.push({ streams, texts: new Map(this.#store.texts) });
    if (this.#earlier.length > KEPT_STORES) this.#earlier.shift();
  }
}

function entriesOf(reply: RedisReply): readonly (readonly string[])[] {
  const [found] = (reply ?? []) as readonly (readonly [string, readonly [string, readonly string[] | null][]])[];
  return (found?.[1] ?? []).map(([, fields]) => fields ?? []);
}

function fieldOf(fields: readonly string[], name: string): string {
  return fields[fields.indexOf(name) + 1] ?? "";
}
