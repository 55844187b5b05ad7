import type { LookupFunction } from "node:net";
import { type buildConnector, Client } from "undici";
import type { Clock } from "../platform/clock.ts";
import type { AllowedHosts } from "./address-policy.ts";
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

async function exchange(
  message: Post,
  addresses: readonly ResolvedAddress[],
  clock: Clock,
  signal: AbortSignal,
): Promise<Answer> {
  const target = new URL(message.url);
  // The signal bounds everything, so undici's own timeouts are off. It must also reach the socket: destroying a
  // client would leave a connection attempt that nobody answers. Node takes it (net.Socket, tls.connect); undici's
  // types do not know.
  const connect: buildConnector.BuildOptions & { readonly signal: AbortSignal } = {
    timeout: 0,
    lookup: only(addresses),
    signal,
  };
  const limits = { maxHeaderSize: MAX_ANSWER_HEADER_BYTES, headersTimeout: 0, bodyTimeout: 0 };
  const client = new Client(target.origin, { allowH2: false, connect, ...limits });
  try {
    const { statusCode, headers, body } = await client.request({
      method: "POST",
      path: target.pathname + target.search,
      headers: message.headers,
      body: message.body,
      reset: true,
      signal,
    });
    const cancel = clock.after(ANSWER_BODY_MS, () => body.destroy());
    await body.dump({ limit: MAX_ANSWER_BYTES }).catch(() => {});
    cancel();
    const retryAfter = headers["retry-after"];
    return { httpStatus: statusCode, retryAfter: (Array.isArray(retryAfter) ? retryAfter[0] : retryAfter) ?? null };
  } finally {
    await client.destroy();
  }
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
  UND_ERR_SOCKET: "the connection was closed before an answer",
};

/** One line for the record of deliveries. The text of an error may come from the receiver, so it is cut short. */
function inWords(error: unknown): string {
  if (error instanceof AddressRefusedError) return `refused: ${error.message}`;
  if (!(error instanceof Error)) return String(error).slice(0, MAX_ERROR_LENGTH);
  const code = "code" in error ? String(error.code) : "";
  return (CODES[code] ?? [code, error.message].filter((part) => part !== "").join(": ")).slice(0, MAX_ERROR_LENGTH);
}
