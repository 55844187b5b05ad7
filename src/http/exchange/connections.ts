/** The connections of the server: what is owed on each, how an answer is written to it, and how it is ended. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Answer, StreamAnswer } from "./answers.ts";
import type { Caller } from "./auth.ts";
import { ByteRoom, type Occupant } from "./byte-room.ts";
import { Crowd, type Place } from "./crowd.ts";
import type { Origin } from "./endpoint.ts";
import { type Client, countedAddress } from "./limits.ts";
import { Pipeline, Waiters } from "./pipeline.ts";
import { exchangeProblem, HttpError, type HttpErrorCode } from "./problems.ts";
import { type StreamEnd, writePieces } from "./streaming.ts";

/** How long a client may still read a refusal, or the end of a stream, before the connection is reset under it. */
const LINGER_MS = 500;
/** Nothing that the API answers is a document of somebody else's page. */
const GUARDS = ["X-Content-Type-Options", "nosniff", "Cross-Origin-Resource-Policy", "same-origin"];

const REFUSALS: { readonly [parserCode: string]: readonly [HttpErrorCode, string] } = {
  ERR_HTTP_REQUEST_TIMEOUT: ["request-timeout", "the request was not whole in time"],
  HPE_HEADER_OVERFLOW: ["headers-too-large", "the request line and header fields are larger than is taken"],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ["body-too-large", "the extensions of a chunk are larger than is taken"],
};

/** How often it is looked at whether those who wait and read streams still may. */
const SWEEP_MS = 500;

/** One request that is being served, and what it holds until its answer is over. */
export interface Exchange extends Occupant {
  readonly res: ServerResponse<IncomingMessage>;
  /** `null` until it is admitted, and of what no limit is for. */
  client: Client | null;
  /** Of what counts as stored for it, as far as that may still be given back. */
  storedBytes: number;
  /** Of an answer that its connection has not taken, wherever it is held. */
  owedBytes: number;
  /** Who asks; `null` until that is known. */
  caller: Caller | null;
  /** Of what may change something; `null`: it only looks. */
  origin: Origin | null;
  /** Of a body that names a service. */
  serviceName: string | null;
}

/** An open connection. */
interface Line {
  readonly place: Place;
  readonly pipeline: Pipeline;
  /** Few: a pipeline serves some side by side. */
  readonly exchanges: Exchange[];
}

/** A wait or a stream under way. */
interface Wait {
  readonly ending: AbortController;
  /** Whether its client may still have it: a key that is withdrawn ends what it has opened. */
  readonly mayGoOn: () => boolean;
}

export interface ConnectionLimits {
  readonly maxConnections: number;
  /** Under way at once, those that wait included; left out: as many as there are connections. */
  readonly maxRequests?: number;
  /** For one answer to be taken by the client. */
  readonly writeTimeoutMs: number;
  /** Streams that may be open at a time. */
  readonly maxStreams: number;
  /** How long the client of a stream may take nothing of it before it is dropped. */
  readonly streamStallMs: number;
}

/** A stream that has its connection. */
export interface OpenStream {
  readonly stream: StreamAnswer;
  readonly ending: AbortSignal;
  /** Whether its client may still have it. */
  readonly mayGoOn: () => boolean;
}

export class Connections {
  readonly #limits: ConnectionLimits;
  /** What every answer bears. */
  readonly #headers: readonly string[];
  readonly #open = new Set<Socket>();
  /** The newest request's answer on each connection; with pipelining, earlier ones may be due before it. */
  readonly #latest = new WeakMap<Duplex, ServerResponse<IncomingMessage>>();
  readonly #lines = new WeakMap<Duplex, Line>();
  readonly #crowd: Crowd;
  /** Of connections whose handshake is under way, by their two ends. */
  readonly #shakingHands = new Map<string, Place>();
  readonly #waiters = new Waiters();
  /** The wait or stream under way on each connection. */
  readonly #waits = new Map<Duplex, Wait>();
  readonly #sweeping: NodeJS.Timeout;
  /** For bodies and for answers that are not taken, of all connections. */
  readonly room: ByteRoom;
  /** Connections that carry a stream, which is the last that they carry. */
  readonly #streams = new Set<Duplex>();
  readonly #refused = new WeakSet<Duplex>();
  #draining = false;

  /** @param version of the program, which every answer names. */
  constructor(limits: ConnectionLimits, version: string) {
    this.#limits = limits;
    this.room = new ByteRoom(limits.maxRequests);
    this.#headers = [...GUARDS, "GPU-Orchestrator-Version", version];
    this.#crowd = new Crowd(limits.maxConnections);
    this.#sweeping = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /** How many connections had to make room for others, or found none. */
  get crowdedOut(): number {
    return this.#crowd.crowdedOut;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** A connection that is to speak TLS has come: it has its place from here on, and {@link opened} takes that over. */
  arrived(socket: Socket): void {
    const place = this.#enter(socket);
    if (place === null) return;
    const ends = endsOf(socket);
    this.#shakingHands.set(ends, place);
    socket.once("close", () => {
      if (this.#shakingHands.get(ends) === place) this.#shakingHands.delete(ends);
      this.#crowd.left(place);
    });
  }

  #takeOver(socket: Socket): Place | null {
    if (this.#shakingHands.size === 0 || socket.remotePort === undefined) return null;
    const ends = endsOf(socket);
    const place = this.#shakingHands.get(ends) ?? null;
    this.#shakingHands.delete(ends);
    return place;
  }

  #enter(socket: Socket): Place | null {
    const place = {
      address: countedAddress(socket.remoteAddress),
      leave: () => void socket.destroy(),
      idleSince: null,
    };
    if (this.#crowd.enter(place)) return place;
    socket.destroy();
    return null;
  }

  opened(socket: Socket): void {
    const place = this.#takeOver(socket) ?? this.#enter(socket);
    if (place === null) return;
    const line: Line = { place, pipeline: new Pipeline(socket, this.#waiters), exchanges: [] };
    this.#lines.set(socket, line);
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      this.#streams.delete(socket);
      this.#waits.get(socket)?.ending.abort();
      this.#crowd.left(place);
      // Not every answer that was due on it is told of its end.
      for (const exchange of [...line.exchanges]) this.over(exchange);
    });
  }

  /** Has a request served, as soon as the answers to those before it on its connection leave room. */
  receive(res: ServerResponse<IncomingMessage>, serve: (exchange: Exchange) => void): void {
    const line = this.#lines.get(res.req.socket);
    if (line === undefined) return;
    this.#crowd.busy(line.place);
    line.pipeline.take(res, () => {
      const none = { client: null, caller: null, origin: null, serviceName: null };
      const exchange = { res, ...none, bodyBytes: 0, untakenBytes: 0, isUnderWay: false, storedBytes: 0, owedBytes: 0 };
      line.exchanges.push(exchange);
      serve(exchange);
    });
  }

  /** A request has got its answer, or never will. */
  over(exchange: Exchange): void {
    const line = this.#lines.get(exchange.res.req.socket);
    if (line === undefined || !removed(line.exchanges, exchange)) return;
    exchange.client?.leave();
    this.room.leave(exchange);
    line.pipeline.over(exchange.owedBytes);
    if (line.pipeline.isIdle) this.#crowd.idle(line.place);
  }

  #sweep(): void {
    for (const { ending, mayGoOn } of this.#waits.values()) if (!mayGoOn()) ending.abort();
  }

  /** A request has come, and is owed `res`. */
  began(res: ServerResponse<IncomingMessage>): void {
    this.#latest.set(res.req.socket, res);
  }

  /**
   * Lets a request on this connection wait; see {@link Hold}. One at a time: the answers to those pipelined behind it
   * could not overtake it anyway, and so there are no more waits than connections.
   */
  hold<T>(socket: Duplex, mayGoOn: () => boolean, wait: (signal: AbortSignal) => Promise<T>): Promise<T> | null {
    const ending = this.#occupy(socket, mayGoOn);
    return ending && wait(ending).finally(() => this.#waits.delete(socket));
  }

  #occupy(socket: Duplex, mayGoOn: () => boolean): AbortSignal | null {
    if (this.#draining || !socket.writable || this.#refused.has(socket) || this.#waits.has(socket)) return null;
    const ending = new AbortController();
    this.#waits.set(socket, { ending, mayGoOn });
    return ending.signal;
  }

  /** Whether this connection carries a stream: nothing that is asked behind it is served (RFC 9112, section 9.6). */
  isStreaming(socket: Duplex): boolean {
    return this.#streams.has(socket);
  }

  /**
   * Takes a connection for a stream, which has it until it closes.
   *
   * @throws HttpError when it cannot be had.
   */
  openStream({ res, client }: Exchange, stream: StreamAnswer, mayGoOn: () => boolean): OpenStream {
    const { socket } = res.req;
    const { maxStreams } = this.#limits;
    if (this.#streams.size >= maxStreams) throw new HttpError("too-many-streams", `${maxStreams} are open, the limit`);
    const ending = this.#occupy(socket, mayGoOn);
    if (ending === null) throw new HttpError("too-many-streams", "an earlier request on this connection waits");
    try {
      client?.beginStream();
    } catch (error) {
      this.#waits.delete(socket);
      throw error;
    }
    this.#streams.add(socket);
    socket.once("close", () => client?.endStream());
    return { stream, ending, mayGoOn };
  }

  /** Writes a stream to its end, and its connection's. Rejects with what making it throws. */
  async sendStream(
    exchange: Exchange,
    { stream: { status, type, headers, pieces }, ending, mayGoOn }: OpenStream,
  ): Promise<StreamEnd> {
    const { res } = exchange;
    const { socket } = res.req;
    let end: StreamEnd = "stalled";
    try {
      res.writeHead(status, [...this.#headers, ...headers, "Content-Type", type, "Connection", "close"]);
      res.flushHeaders();
      end = await writePieces(res, pieces, ending, mayGoOn, this.#limits.streamStallMs);
      return end;
    } finally {
      this.#waits.delete(socket);
      if (end === "ended") {
        res.end();
        setTimeout(() => socket.destroy(), LINGER_MS).unref();
      } else socket.destroy();
    }
  }

  /** @param requestId is told beside the answer; `null`: it has one itself, or none. */
  send(exchange: Exchange, answer: Answer, requestId: string | null = null): void {
    const { status, type, body, headers, onSent } = answer;
    const { res } = exchange;
    const { socket } = res.req;
    if (!socket.writable) {
      onSent?.(false);
      this.over(exchange);
      return;
    }
    const fields = [...this.#headers, ...headers];
    if (requestId !== null) fields.push("X-Request-Id", requestId);
    const bytes = type === null ? 0 : Buffer.byteLength(body);
    if (type !== null) fields.push("Content-Type", type, "Content-Length", String(bytes));
    if (this.#draining) fields.push("Connection", "close");
    res.writeHead(status, fields);
    // Text of as many bytes as characters is ASCII, which is quicker to write as Latin-1.
    res.end(body, bytes === body.length ? "latin1" : "utf8");
    // As a rule the system has taken it all by now; `writableFinished` would say so only in the next tick.
    if (res.writableLength === 0 && socket.errored === null) {
      onSent?.(true);
      this.over(exchange);
    } else this.#boundWriting(exchange, bytes, answer);
  }

  #boundWriting(exchange: Exchange, bytes: number, { onSent, isHeld }: Answer): void {
    const { res } = exchange;
    const { socket } = res.req;
    exchange.owedBytes = bytes;
    if (isHeld !== true) this.room.untaken(exchange, bytes);
    this.#lines.get(socket)?.pipeline.owes(bytes);
    const giveUp = () => {
      // It is not its client that it waits for, but the request before it.
      if (this.#waits.has(socket)) timer = setTimeout(giveUp, this.#limits.writeTimeoutMs);
      else socket.destroy();
    };
    let timer = setTimeout(giveUp, this.#limits.writeTimeoutMs);
    res.once("close", () => {
      clearTimeout(timer);
      onSent?.(res.writableFinished);
      this.over(exchange);
    });
  }

  /** Deals with what is no HTTP request, or did not become a whole one in time. */
  refuse(error: Error & { readonly code?: string }, socket: Duplex): void {
    // What follows on a refused connection is more of the same.
    if (this.#refused.has(socket)) return;
    this.#refused.add(socket);
    this.#waits.get(socket)?.ending.abort();
    const last = this.#latest.get(socket);
    if (last?.req.complete && !last.writableFinished) {
      // A later message is wrong, and an earlier request is still owed its answer.
      last.once("close", () => socket.destroy());
      return;
    }
    // Wrong is the body of the last request: it can be told so if nothing else is due and nothing was said yet.
    const isTurn = last === undefined || last.req.complete || (last.socket === socket && !last.headersSent);
    if (!socket.writable || !isTurn || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    const [code, detail] = REFUSALS[error.code ?? ""] ?? ["malformed-request", "this is not an HTTP request"];
    const answer = exchangeProblem(new HttpError(code, detail));
    socket.on("error", () => undefined);
    socket.end(rawAnswer({ ...answer, headers: [...this.#headers, ...answer.headers] }));
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }

  /**
   * From here on every answer is its connection's last, nobody waits, and connections on which none is due are closed.
   *
   * @returns when the answers that are due now have been given, or their clients have gone.
   */
  async drain(): Promise<void> {
    this.#draining = true;
    for (const { ending } of this.#waits.values()) ending.abort();
    clearInterval(this.#sweeping);
    const due: Promise<unknown>[] = [];
    for (const socket of this.#open) {
      const last = this.#latest.get(socket);
      if (last === undefined || (last.writableFinished && last.req.complete)) socket.destroy();
      else due.push(new Promise((resolve) => socket.once("close", resolve)));
    }
    await Promise.all(due);
  }
}

/** @returns whether it was among them. */
function removed(exchanges: Exchange[], exchange: Exchange): boolean {
  const at = exchanges.indexOf(exchange);
  if (at < 0) return false;
  const last = exchanges.pop() as Exchange;
  if (last !== exchange) exchanges[at] = last;
  return true;
}

/** Tells a connection of the port from others while it is open, whether it is looked at with TLS or under it. */
function endsOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}

/** An answer as bytes, for a connection that node's server has given up. */
function rawAnswer({ status, type, body, headers }: Answer): string {
  const fields = [...headers, "Connection", "close", "Date", new Date().toUTCString()];
  if (type !== null) fields.push("Content-Type", type, "Content-Length", String(Buffer.byteLength(body)));
  // The reason phrase may be left out (RFC 9112, section 4); the space before it may not.
  let head = `HTTP/1.1 ${status} \r\n`;
  for (let i = 0; i < fields.length; i += 2) head += `${fields[i]}: ${fields[i + 1]}\r\n`;
  return `${head}\r\n${body}`;
}
