/**
 * An HTTP server of endpoints: connections and their limits, one answer per request, and the end.
 *
 *  1. Every refusal is a problem document, whoever makes it: this room, express or node's own parser.
 *  2. Every wait on a client is bounded: for its request by the read timeout, for its reading of the answer by the
 *     write timeout, for its next request by the idle timeout. While a client waits for a GPU, none of them runs; while
 *     it reads a stream, it must only take what there is within the stall timeout.
 *  3. What an earlier request on a connection is owed is never mixed with what is wrong with a later one.
 */
import type { Server as HttpServerOfNode, RequestListener, ServerOptions } from "node:http";
import type { Server as HttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import express from "express";
import { Auditing } from "./auditing.ts";
import { Connections, type Exchange } from "./connections.ts";
import type { Endpoint } from "./endpoint.ts";
import {
  type Certificate,
  type Log,
  type Request,
  type ServerParts,
  serving,
  UNDECODABLE,
  UNKNOWN,
  unserved,
} from "./serving.ts";
import { UnixSocket } from "./unix-socket.ts";

export type { Certificate, HttpSettings, RequestMetrics, ServerParts } from "./serving.ts";

export interface HttpServer {
  readonly server: HttpServerOfNode | HttpsServer;
  /** @returns the port, which is the system's choice when 0 was asked for. */
  listen(host: string, port: number): Promise<{ readonly port: number }>;
  /** At a further port, with the same calls. */
  listenToo(host: string, port: number): Promise<{ readonly port: number }>;
  /** For connections from then on; of a server that speaks TLS. */
  renewCertificate(certificate: Certificate): void;
  /** For users of this host; see unix-socket.ts. */
  listenOnSocket(path: string): Promise<void>;
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
  const { settings, version, log } = parts;
  const connections = new Connections(settings, version);
  const auditing = parts.audit === null ? null : new Auditing(parts.audit, log);
  const listener = routed(parts, connections, auditing);
  const options = {
    headersTimeout: settings.readTimeoutMs,
    requestTimeout: settings.readTimeoutMs,
    keepAliveTimeout: settings.idleTimeoutMs,
    connectionsCheckingInterval: Math.min(MAX_CHECK_MS, Math.max(MIN_CHECK_MS, settings.readTimeoutMs / 5)),
    maxHeaderSize: MAX_HEADER_BYTES,
    // Checked at admission, where the refusal is a problem document.
    requireHostHeader: false,
  };
  const unixSocket = parts.peers === undefined ? null : new UnixSocket(options, listener, connections, parts.peers);
  const crowded = crowdedLogger(log, settings.maxConnections);
  const isPlain = settings.certificate === null;
  const make = () => {
    const made = serverOf(settings.certificate, options, listener);
    made.on("connection", (socket: Socket) => {
      const before = connections.crowdedOut;
      if (isPlain) connections.opened(socket);
      else connections.arrived(socket);
      if (connections.crowdedOut > before) crowded(connections.crowdedOut);
    });
    if (!isPlain) made.on("secureConnection", (socket: Socket) => connections.opened(socket));
    // Expectations other than 100-continue may be ignored (RFC 9110, section 10.1.1).
    made.on("checkExpectation", listener);
    made.on("clientError", (error, socket) => connections.refuse(error, socket));
    return made;
  };
  const server = make();
  const servers = [server];

  return {
    server,
    listen: (host, port) => listenAt(server, host, port),
    listenToo(host, port) {
      const further = make();
      servers.push(further);
      return listenAt(further, host, port);
    },
    renewCertificate(certificate) {
      for (const each of servers) if ("setSecureContext" in each) each.setSecureContext({ ...MODERN, ...certificate });
    },
    async listenOnSocket(path) {
      await unixSocket?.listen(path);
    },
    async drain() {
      unixSocket?.close();
      await drain(servers, connections, settings.drainTimeoutMs);
      unixSocket?.closeAll();
      await auditing?.stop();
    },
  };
}

function listenAt(server: HttpServer["server"], host: string, port: number): Promise<{ readonly port: number }> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off("error", reject);
      resolve({ port: (server.address() as AddressInfo).port });
    });
  });
}

/** What TLS is spoken with; older versions are broken (RFC 8996). */
const MODERN = { minVersion: "TLSv1.2" } as const;

function serverOf(
  certificate: Certificate | null,
  options: ServerOptions,
  listener: RequestListener,
): HttpServerOfNode | HttpsServer {
  if (certificate === null) return http.createServer(options, listener);
  const handshakeTimeout = options.requestTimeout ?? 0;
  const { createServer: createSecure } = process.getBuiltinModule("node:https");
  return createSecure({ ...options, ...MODERN, ...certificate, handshakeTimeout }, listener);
}

function crowdedLogger(log: Log, maxConnections: number): (crowdedOut: number) => void {
  let saidAt = Number.NEGATIVE_INFINITY;
  return (crowdedOut) => {
    if (performance.now() - saidAt < CROWDED_LOG_INTERVAL_MS) return;
    saidAt = performance.now();
    log.warn(
      { max_connections: maxConnections, crowded_out: crowdedOut },
      "all connections are taken: idle ones make room, or newcomers are dropped",
    );
  };
}

/**
 * As long as an earlier request is being served, newcomers are still accepted, to be told that it is over: a probe of
 * readiness should see a 503, not a refused connection.
 */
async function drain(
  servers: readonly HttpServer["server"][],
  connections: Connections,
  timeoutMs: number,
): Promise<void> {
  let deadline: NodeJS.Timeout | undefined;
  const isLate = new Promise((resolve) => {
    deadline = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([connections.drain(), isLate]);
  clearTimeout(deadline);
  const closed = servers.map(
    (server) =>
      new Promise((resolve) => {
        // An error says that it did not listen: there is nothing to wait for then either.
        server.close(resolve);
        server.closeAllConnections();
      }),
  );
  await Promise.all(closed);
}

/** Express hands on what it was given: the exchange stands in for node's response. */
type Route = (req: Request, exchange: Exchange) => unknown;

/**
 * From a path to its endpoint: a path without parameters by a table, the others by express' router. Only its router is
 * used: an express application would also give each request and answer another prototype, with methods that nothing here
 * calls, at 5 us a request.
 */
function routed(parts: ServerParts, connections: Connections, auditing: Auditing | null): RequestListener {
  const exact = new Map<string, Endpoint>();
  const serve = serving(parts, connections, auditing);
  const endpoints = parts.endpoints(() => connections.draining);
  for (const endpoint of endpoints) {
    if (/^[/a-z-]+$/.test(endpoint.path) && !exact.has(endpoint.path)) exact.set(endpoint.path, endpoint);
  }
  type Handle = (req: Request, exchange: Exchange, next: (error?: unknown) => void) => void;
  let router: Handle | null = null;
  // Made for the first request that needs it: the start does not wait for some eighty patterns.
  const made = (): Handle => {
    const all = express.Router({ caseSensitive: true });
    for (const endpoint of endpoints) {
      const route: Route = (req, exchange) => serve(endpoint, req, exchange);
      all.all(endpoint.path, route as unknown as express.RequestHandler);
    }
    return all as unknown as Handle;
  };
  const route = (req: Request, exchange: Exchange) => {
    // A target in another form, with a query or a slash at its end, is for the router to understand.
    const endpoint = exact.get(req.url ?? "");
    if (endpoint !== undefined) return serve(endpoint, req, exchange);
    router ??= made();
    router(req, exchange, (error) => {
      if (error === undefined || error === null) serve(UNKNOWN, req, exchange);
      else if (error instanceof URIError) serve(UNDECODABLE, req, exchange);
      else unserved(parts.log, error, req, exchange.res);
    });
  };
  return (req, res) => connections.receive(res, (exchange) => route(req, exchange));
}
