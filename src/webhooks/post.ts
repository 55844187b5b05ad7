import type { IncomingMessage } from "node:http";
import type { LookupFunction } from "node:net";
import type { Clock } from "../platform/clock.ts";
import { type AllowedHosts, hostOf } from "./address-policy.ts";
import { AddressRefusedError, allowedAddresses, type Lookup, type ResolvedAddress } from "./resolve.ts";

/** Bytes of an answer's body that are read, and thrown away, before the connection is cut. */
const MAX_ANSWER_BYTES = 16 * 1024;
/** How long the rest of an answer may take once its status is known. */
const ANSWER_BODY_MS = 1_000;
const MAX_ANSWER_HEADER_BYTES = 16 * 1024;
const MAX_ERROR_LENGTH = 300;

interface Post {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** What came back. `error` says why no status did. */
export type Answer =
  | { readonly httpStatus: number; readonly retryAfter: string | null }
  | { readonly httpStatus: null; readonly error: string };

export interface PostingContext {
  readonly allowedHosts: AllowedHosts;
  readonly lookup: Lookup;
  readonly clock: Clock;
}

/**
 * Makes one POST and reports its status. Never rejects.
 *
 * Every post has a connection of its own, opened to addresses that were judged just before and closed afterwards:
 * a pooled socket would dodge both that judgement and a change of the settings. No redirect is followed: a 3xx is a
 * status like any other. Once the status is known it stands, whatever becomes of the answer's body.
 *
 * @param signal ends the exchange at any stage; the caller's deadline for all of it.
 */
export async function post(message: Post, context: PostingContext, signal: AbortSignal): Promise<Answer> {
  try {
    const addresses = await unlessAborted(allowedAddresses(message.url, context.allowedHosts, context.lookup), signal);
    return await exchange(message, addresses, context.clock, signal);
  } catch (error) {
    return { httpStatus: null, error: inWords(signal.aborted ? signal.reason : error) };
  }
}

function exchange(
  { url, headers, body }: Post,
  addresses: readonly ResolvedAddress[],
  clock: Clock,
  signal: AbortSignal,
): Promise<Answer> {
  const target = new URL(url);
  // An import of node:http would also load what its lazy exports stand for, a whole web client.
  const { request } = process.getBuiltinModule(target.protocol === "https:" ? "node:https" : "node:http");
  return new Promise((resolve, reject) => {
    const outgoing = request({
      method: "POST",
      // Never the URL itself: node would make an Authorization field of a name and a password in it.
      host: hostOf(target),
      port: target.port,
      path: target.pathname + target.search,
      headers: { ...headers, "content-length": body.length },
      agent: false,
      lookup: only(addresses),
      maxHeaderSize: MAX_ANSWER_HEADER_BYTES,
      signal,
    });
    let isAnswered = false;
    const fail = (error: Error) => {
      // Once the status is known it stands: what goes wrong with the rest of the answer is no failure of the delivery.
      if (!isAnswered) reject(error);
    };
    outgoing.on("error", fail);
    // After an error this says nothing new; an upgrade that nobody asked for ends like this alone.
    outgoing.once("close", () => fail(new ClosedEarlyError()));
    outgoing.once("response", (incoming) => {
      isAnswered = true;
      const answer = { httpStatus: incoming.statusCode ?? 0, retryAfter: incoming.headers["retry-after"] ?? null };
      dump(incoming, clock, () => {
        outgoing.destroy();
        resolve(answer);
      });
    });
    outgoing.end(body);
  });
}

/** Reads the rest of an answer, within bounds, and throws it away. */
function dump(incoming: IncomingMessage, clock: Clock, done: () => void): void {
  let bytes = 0;
  const cancel = clock.after(ANSWER_BODY_MS, () => incoming.destroy());
  incoming.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) incoming.destroy();
  });
  // The status stands, whatever becomes of the rest.
  incoming.on("error", () => undefined);
  incoming.once("end", () => incoming.destroy());
  incoming.once("close", () => {
    cancel();
    done();
  });
}

/** A resolver that knows one answer. Node asks it for names only; a literal address was judged as it stands. */
function only(addresses: readonly ResolvedAddress[]): LookupFunction {
  return (_host, options, callback) => {
    if (options.all === true) return callback(null, [...addresses]);
    const first = addresses[0] as ResolvedAddress;
    callback(null, first.address, first.family);
  };
}

/** A question to the resolver cannot be taken back; this stops waiting for it. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

const CODES: { readonly [code: string]: string } = {
  ECONNREFUSED: "the connection was refused",
  ECONNRESET: "the connection was reset",
  EHOSTUNREACH: "the host cannot be reached",
  ENETUNREACH: "the network cannot be reached",
  ENOTFOUND: "the host name does not resolve",
  EAI_AGAIN: "the name server does not answer",
};

class ClosedEarlyError extends Error {
  constructor() {
    super("the connection was closed before an answer");
  }
}

/** One line for the record of deliveries. The text of an error may come from the receiver, so it is cut short. */
function inWords(error: unknown): string {
  if (error instanceof AddressRefusedError) return `refused: ${error.message}`;
  if (!(error instanceof Error)) return String(error).slice(0, MAX_ERROR_LENGTH);
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  // Node's "socket hang up" has the code of a reset, but no call to the system that failed.
  if (code === "ECONNRESET" && !("syscall" in error)) return new ClosedEarlyError().message;
  return (CODES[code] ?? [code, error.message].filter((part) => part !== "").join(": ")).slice(0, MAX_ERROR_LENGTH);
}
