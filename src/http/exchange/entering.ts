/** What a request takes of its client's share, and what it gives back. */
import type { IncomingMessage } from "node:http";
import type { Caller } from "./auth.ts";
import { MAX_BODY_BYTES, MAX_TEXT_BYTES } from "./body.ts";
import type { Connections, Exchange } from "./connections.ts";
import type { Operation } from "./endpoint.ts";
import type { Limits } from "./limits.ts";

/**
 * A request counts as its client's from here on until it is over.
 *
 * @throws HttpError 429 or 503 when it may not.
 */
export function enter(
  { limits, connections }: { readonly limits: Limits; readonly connections: Connections },
  req: IncomingMessage,
  exchange: Exchange,
  { caller, operation, address }: { readonly caller: Caller; readonly operation: Operation; readonly address: string },
): void {
  const client = limits.clientOf(caller.keyed ? caller.actor.principal : null, address);
  const bodyBytes = mostBodyBytes(req, operation);
  const looks = req.method === "GET" || req.method === "HEAD";
  const isEssential = operation.essential === true;
  const storedBytes = client.enter({
    isEssential,
    isLongPoll: looks && (req.url ?? "").includes("wait="),
    // What a reader may post, a plan, changes nothing either.
    storedBytes: looks || operation.role === "read" ? null : bodyBytes,
    hasIdempotencyKey: req.headers["idempotency-key"] !== undefined,
  });
  exchange.client = client;
  exchange.storedBytes = storedBytes;
  connections.room.enter(exchange, bodyBytes, isEssential);
}

/** How many bytes of a body are taken at most: where no length is told, as many as one may have. */
function mostBodyBytes(req: IncomingMessage, { body, takesText }: Operation): number {
  if (body === "ignored") return 0;
  const { "content-length": length, "transfer-encoding": coding } = req.headers;
  const maxBytes = takesText === true ? MAX_TEXT_BYTES : MAX_BODY_BYTES;
  return coding === undefined ? Math.min(Number(length ?? 0), maxBytes) : maxBytes;
}

/** A body has come whole: what it took beyond its own length, for want of a length told before, is given back. */
export function bodyCame(connections: Connections, exchange: Exchange, bytes: number): void {
  const surplus = exchange.bodyBytes - bytes;
  if (surplus > 0 && exchange.storedBytes > 0) {
    exchange.client?.notStored(surplus);
    exchange.storedBytes -= surplus;
  }
  connections.room.came(exchange, bytes);
}

/** It was refused, or its client has gone before it was whole: nothing of it is stored. */
export function nothingStored(exchange: Exchange): void {
  exchange.client?.notStored(exchange.storedBytes);
  exchange.storedBytes = 0;
}
