/**
 * An HTTP server of endpoints: connections and their limits, one answer per request, and the end.
 *
 *  1. Every refusal is a problem document, whoever makes it: this room, express or node's own parser.
 *  2. Every wait on a client is bounded: for its request by the read timeout, for its reading of the answer by the
 *     write timeout, for its next request by the idle timeout. While a client waits for a GPU, none of them runs; while
 *     it reads a stream, it must only take what there is within the stall timeout.
 *  3. What an earlier request on a connection is owed is never mixed with what is wrong with a later one.
 */
import type { IncomingMessage, RequestListener, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import express from "express";
import { admitter } from "./admission.ts";
import { type Answer, headOf, noContent } from "./answers.ts";
import { type ApiKey, type AuthSettings, authenticator, type Caller } from "./auth.ts";
import { ClientGoneError, readJson, readText } from "./body.ts";
import { addressOf } from "./client-address.ts";
import { type ConnectionLimits, Connections, type Exchange, type OpenStream } from "./connections.ts";
import type { Call, Endpoint, Hold } from "./endpoint.ts";
import { bodyCame, enter, nothingStored } from "./entering.ts";
import { type Client, type LimitSettings, Limits } from "./limits.ts";
import { HttpError, problemAnswer, type Refusals } from "./problems.ts";

export interface HttpSettings extends ConnectionLimits {
  readonly auth: AuthSettings;
  /** Names accepted in `Host` beside addresses, `localhost` and the machine's own. */
  readonly allowedHosts: readonly string[];
  /** For a whole request to arrive, from its first byte (or the connection's start) on. */
  readonly readTimeoutMs: number;
  /** For the next request on a connection. */
  readonly idleTimeoutMs: number;
  /** Addresses and CIDR blocks whose `X-Forwarded-For` says where a request comes from. */
  readonly trustedProxies: readonly string[];
  /** At the end, for requests that are being served. */
  readonly drainTimeoutMs: number;
}

/** One answered request. */
export interface RequestSample {
  readonly method: string;
  /** The route's template; unknown paths share one. */
  readonly endpoint: string;
  readonly status: number;
  /** `null` of a stream, which is as long as its client likes. */
  readonly seconds: number | null;
}

export interface RequestMetrics {
  observeRequest(sample: RequestSample): void;
  /** A request was refused because its client's share was used up. */
  limitReached(limit: string): void;
}

export interface Log {
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export interface ServerParts {
  readonly settings: HttpSettings;
  /** The keys as they are now. A new list, not a changed one, when they change. */
  readonly keys: () => readonly ApiKey[];
  /** What one client may have, as it is now. Another object when it changes. */
  readonly limits: () => LimitSettings;
  readonly metrics: RequestMetrics | null;
  /** @param isDraining the server takes no new work: what is ready must say so. */
  readonly endpoints: (isDraining: () => boolean) => readonly Endpoint[];
  /** What the rooms behind the endpoints refuse. */
  readonly refusals: Refusals;
  /** What a request is refused with while the server stops. */
  readonly shuttingDown: () => Error;
  readonly log: Log;
}

export interface HttpServer {
  readonly server: Server;
  /** @returns the port, which is the system's choice when 0 was asked for. */
  listen(host: string, port: number): Promise<{ readonly port: number }>;
  /** Lets requests that are being served finish, refuses others, and returns when no connection is left. */
  drain(): Promise<void>;
}

/** An `import` of this module would also load what its lazy exports stand for, a whole web client: 25 ms of the start. */
const http = process.getBuiltinModule("node:http");

const MAX_HEADER_BYTES = 16 * 1_024;
/** Connections that the system may hold before they are accepted. */
const BACKLOG = 4_096;
/** How often timeouts of incomplete requests are looked at: a part of them, within these bounds. */
const MIN_CHECK_MS = 50;
const MAX_CHECK_MS = 1_000;
/** A full server says so at most this often. */
const CROWDED_LOG_INTERVAL_MS = 10_000;

export function createServer(parts: ServerParts): HttpServer {
  const { settings, log } = parts;
  const connections = new Connections(settings);
  const listener = routed(parts, connections);
  const server = http.createServer(
    {
      headersTimeout: settings.readTimeoutMs,
      requestTimeout: settings.readTimeoutMs,
      keepAliveTimeout: settings.idleTimeoutMs,
      connectionsCheckingInterval: Math.min(MAX_CHECK_MS, Math.max(MIN_CHECK_MS, settings.readTimeoutMs / 5)),
      maxHeaderSize: MAX_HEADER_BYTES,
      // Checked at admission, where the refusal is a problem document.
      requireHostHeader: false,
    },
    listener,
  );
  const crowded = crowdedLogger(log, settings.maxConnections);
  server.on("connection", (socket) => {
    const before = connections.crowdedOut;
    connections.opened(socket);
    if (connections.crowdedOut > before) crowded(connections.crowdedOut);
  });
  // Expectations other than 100-continue may be ignored (RFC 9110, section 10.1.1).
  server.on("checkExpectation", listener);
  server.on("clientError", (error, socket) => connections.refuse(error, socket));

  return {
    server,
    listen: (host, port) =>
      new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host, port, backlog: BACKLOG }, () => {
          server.off("error", reject);
          resolve({ port: (server.address() as AddressInfo).port });
        });
      }),
    drain: () => drain(server, connections, settings.drainTimeoutMs),
  };
}

function crowdedLogger(log: Log, maxConnections: number): (crowdedOut: number) => void {
  let saidAt = Number.NEGATIVE_INFINITY;
  return (crowdedOut) => {
    if (performance.now() - saidAt < CROWDED_LOG_INTERVAL_MS) return;
    saidAt = performance.now();
    log.warn(
      { maxConnections, crowdedOut },
      "all connections are taken: idle ones make room, or newcomers are dropped",
    );
  };
}

/**
 * As long as an earlier request is being served, newcomers are still accepted, to be told that it is over: a probe of
 * readiness should see a 503, not a refused connection.
 */
async function drain(server: Server, connections: Connections, timeoutMs: number): Promise<void> {
  let deadline: NodeJS.Timeout | undefined;
  const isLate = new Promise((resolve) => {
    deadline = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([connections.drain(), isLate]);
  clearTimeout(deadline);
  await new Promise((resolve) => {
    // An error says that it did not listen: there is nothing to wait for then either.
    server.close(resolve);
    server.closeAllConnections();
  });
}

/** What nothing stands at. One label for the metrics, whatever the path. */
const UNKNOWN: Endpoint = { path: "(unknown)", access: "key", methods: {}, allow: "" };
const UNDECODABLE: Endpoint = { ...UNKNOWN };

/** The path's parameters are what express' router adds to node's request. */
type Request = IncomingMessage & { readonly params?: { readonly id?: string; readonly rest?: readonly string[] } };
type Fail = (error: unknown) => void;
type Serve = (endpoint: Endpoint, req: Request, exchange: Exchange) => void;
/** Express hands on what it was given: the exchange stands in for node's response. */
type Route = (req: Request, exchange: Exchange) => unknown;

/**
 * From a path to its endpoint: a path without parameters by a table, the others by express' router. Its router alone,
 * for an application would also give each request and answer another prototype, with methods that are not used here: 5
 * us a request.
 */
function routed(parts: ServerParts, connections: Connections): RequestListener {
  const router = express.Router({ caseSensitive: true });
  const exact = new Map<string, Endpoint>();
  const serve = serving(parts, connections);
  for (const endpoint of parts.endpoints(() => connections.draining)) {
    const route: Route = (req, exchange) => serve(endpoint, req, exchange);
    router.all(endpoint.path, route as unknown as express.RequestHandler);
    if (/^[/a-z-]+$/.test(endpoint.path) && !exact.has(endpoint.path)) exact.set(endpoint.path, endpoint);
  }
  const handle = router as unknown as (req: Request, exchange: Exchange, next: (error?: unknown) => void) => void;
  const route = (req: Request, exchange: Exchange) => {
    // A target in another form, with a query or a slash at its end, is for the router to understand.
    const endpoint = exact.get(req.url ?? "");
    if (endpoint !== undefined) return serve(endpoint, req, exchange);
    handle(req, exchange, (error) => {
      if (error === undefined || error === null) serve(UNKNOWN, req, exchange);
      else if (error instanceof URIError) serve(UNDECODABLE, req, exchange);
      else unserved(parts.log, error, req, exchange.res);
    });
  };
  return (req, res) => connections.receive(res, (exchange) => route(req, exchange));
}

/** A bug of the server itself: not even a 500 could be sent. */
function unserved(log: Log, error: unknown, req: Request, res: ServerResponse): void {
  log.error({ err: error, method: req.method }, "a request could not be answered");
  res.destroy();
}

/** What serves one request, from its admission to its answer. Only what has to wait is a promise. */
function serving(parts: ServerParts, connections: Connections): Serve {
  const { metrics, log, settings, refusals } = parts;
  const limits = new Limits(parts.limits);
  const addressIn = addressOf(settings.trustedProxies);
  const authenticate = authenticator(settings.auth, parts.keys);
  const admit = admitter(authenticate, settings.allowedHosts, (req) => limits.failedAuthentication(addressIn(req)));

  const send = (
    answer: Answer | OpenStream,
    endpoint: Endpoint,
    startedAt: number,
    req: Request,
    exchange: Exchange,
  ) => {
    const told = { method: req.method ?? "", endpoint: endpoint.path };
    if ("ending" in answer) {
      metrics?.observeRequest({ ...told, status: answer.stream.status, seconds: null });
      void sendStream(exchange, answer, connections, log);
      return;
    }
    connections.send(exchange, answer);
    const seconds = (performance.now() - startedAt) / 1_000;
    metrics?.observeRequest({ ...told, status: answer.status, seconds });
  };

  /** Admits a request, reads its body, and answers it. */
  const begin = (
    endpoint: Endpoint,
    req: Request,
    exchange: Exchange,
    done: (answer: Answer | OpenStream) => void,
    fail: Fail,
  ) => {
    if (connections.isStreaming(req.socket))
      throw new HttpError("malformed-request", "this connection carries a stream, and no further request");
    if (endpoint === UNDECODABLE) throw new HttpError("malformed-request", "the path cannot be decoded");
    const { caller, operation } = admit(req, endpoint);
    if (connections.draining && endpoint.access !== "probe") throw parts.shuttingDown();
    if (operation === null) {
      done(noContent(["Allow", endpoint.allow]));
      return;
    }
    if (endpoint.access !== "probe") {
      enter({ limits, connections }, req, exchange, { caller, operation, address: addressIn(req) });
    }
    const keys = parts.keys();
    // A key that is withdrawn ends what it has opened.
    const mayGoOn = () => (parts.keys() === keys && !hasExpiring(keys)) || passes(() => admit(req, endpoint));
    const respond = (body: unknown, bytes: number) => {
      try {
        bodyCame(connections, exchange, bytes);
        if (body === undefined && operation.body === "needed")
          throw new HttpError("malformed-json", "a JSON body is needed");
        const answer = operation.answer(
          callOf(req, caller, body, exchange.client, holding(exchange, connections, mayGoOn)),
        );
        if (answer instanceof Promise) answer.then(done, fail);
        else if (!("pieces" in answer)) done(answer);
        else done(req.method === "HEAD" ? headOf(answer) : connections.openStream(exchange, answer, mayGoOn));
      } catch (error) {
        fail(error);
      }
    };
    if (operation.body === "ignored") respond(undefined, 0);
    else if (operation.takesText === true) readText(req, respond, fail);
    else readJson(req, respond, fail);
  };

  return (endpoint, req, exchange) => {
    const startedAt = performance.now();
    connections.began(exchange.res);
    const done = (answer: Answer | OpenStream) => {
      try {
        send(answer, endpoint, startedAt, req, exchange);
      } catch (error) {
        unserved(log, error, req, exchange.res);
      }
    };
    const fail: Fail = (error) => {
      nothingStored(exchange);
      if (error instanceof ClientGoneError) return;
      if (error instanceof HttpError && error.limit !== null) metrics?.limitReached(error.limit);
      const answer = problemAnswer(error, refusals, (bug, requestId) =>
        log.error({ err: bug, requestId, method: req.method, endpoint: endpoint.path }, "a request failed"),
      );
      done(answer);
    };
    try {
      begin(endpoint, req, exchange, done, fail);
    } catch (error) {
      fail(error);
    }
  };
}

/** A request that waited until its key was withdrawn is refused as any other of that key. */
function holding(exchange: Exchange, connections: Connections, mayGoOn: () => boolean): Hold {
  const { client, res } = exchange;
  return (wait) => {
    if (client?.beginWait() === false) return null;
    // What waits was taken, and is stored, however the wait ends.
    exchange.storedBytes = 0;
    const held = connections.hold(res.req.socket, mayGoOn, wait);
    if (held === null) {
      client?.endWait();
      return null;
    }
    return held
      .finally(() => client?.endWait())
      .then((result) => {
        if (!mayGoOn()) throw new HttpError("unauthenticated", "the API key was withdrawn");
        return result;
      });
  };
}

function callOf(req: Request, { actor, role, keyed }: Caller, body: unknown, client: Client | null, hold: Hold): Call {
  const { headers } = req;
  return {
    actor,
    role,
    keyed,
    id: req.params?.id ?? "",
    rest: req.params?.rest?.join("/") ?? "",
    url: req.url ?? "",
    body,
    accept: headers.accept,
    acceptEncoding: headers["accept-encoding"] as string | undefined,
    prefer: headers.prefer as string | undefined,
    idempotencyKey: headers["idempotency-key"] as string | undefined,
    lastEventId: headers["last-event-id"] as string | undefined,
    tenant: headers["x-tenant-id"] as string | undefined,
    client,
    hold,
  };
}

function hasExpiring(keys: readonly ApiKey[]): boolean {
  return keys.some(({ expiresAt }) => expiresAt !== undefined);
}

function passes(check: () => unknown): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

/** Never rejects: a stream that fails breaks off, and its client comes back. */
async function sendStream(exchange: Exchange, stream: OpenStream, connections: Connections, log: Log): Promise<void> {
  const { url } = exchange.res.req;
  try {
    const end = await connections.sendStream(exchange, stream);
    if (end === "stalled") log.warn({ url }, "a client that did not read its stream was dropped");
  } catch (error) {
    log.error({ err: error, url }, "a stream failed");
  }
}
