/**
 * The HTTP server: connections and their limits, one answer per request, and the end.
 *
 *  1. Every refusal is a problem document, whoever makes it: this room, express or node's own parser.
 *  2. Every wait on a client is bounded: for its request by the read timeout, for its reading of the answer by the
 *     write timeout, for its next request by the idle timeout.
 *  3. What an earlier request on a connection is owed is never mixed with what is wrong with a later one.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import express, { type Express, type NextFunction, type Request, type Response } from "express";
import { admitter } from "./admission.ts";
import { type Answer, noContent } from "./answers.ts";
import { type ApiKey, type AuthSettings, authenticator } from "./auth.ts";
import { ClientGoneError, readJson } from "./body.ts";
import { type Endpoint, type EndpointParts, endpointsOf, type MetricsPage } from "./endpoints.ts";
import { HttpError, problemAnswer } from "./problems.ts";

export type { ApiKey, Role } from "./auth.ts";

export interface HttpSettings {
  readonly auth: AuthSettings;
  /** Names accepted in `Host` beside addresses, `localhost` and the machine's own. */
  readonly allowedHosts: readonly string[];
  /** For a whole request to arrive, from its first byte (or the connection's start) on. */
  readonly readTimeoutMs: number;
  /** For one answer to be taken by the client. */
  readonly writeTimeoutMs: number;
  /** For the next request on a connection. */
  readonly idleTimeoutMs: number;
  readonly maxConnections: number;
  /** At the end, for requests that are being served. */
  readonly drainTimeoutMs: number;
}

/** One answered request. */
export interface RequestSample {
  readonly method: string;
  /** The route's template; unknown paths share one. */
  readonly endpoint: string;
  readonly status: number;
  readonly seconds: number;
}

export interface HttpMetrics extends MetricsPage {
  observeRequest(sample: RequestSample): void;
}

export interface Log {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export interface HttpServerParts extends Omit<EndpointParts, "metrics" | "headerName"> {
  readonly settings: HttpSettings;
  /** The keys as they are now. A new list, not a changed one, when they change. */
  readonly keys: () => readonly ApiKey[];
  readonly metrics: HttpMetrics | null;
  readonly log: Log;
}

export interface HttpServer {
  readonly server: Server;
  /** @returns the port, which is the system's choice when 0 was asked for. */
  listen(host: string, port: number): Promise<{ readonly port: number }>;
  /** Takes no more connections, lets requests that are being served finish, and returns when none is left. */
  drain(): Promise<void>;
}

const MAX_HEADER_BYTES = 16 * 1_024;
/** Connections that the system may hold before they are accepted. */
const BACKLOG = 4_096;
/** How often timeouts of incomplete requests are looked at: a part of them, within these bounds. */
const MIN_CHECK_MS = 50;
const MAX_CHECK_MS = 1_000;
const UNKNOWN: Endpoint = { path: "(unknown)", access: "key", methods: {} };

export function createHttpServer(parts: HttpServerParts): HttpServer {
  const { settings, log } = parts;
  const connections = new Connections(settings.writeTimeoutMs);
  const readiness = () => (connections.draining ? "the daemon is shutting down" : parts.readiness());
  const app = application({ ...parts, readiness }, connections);
  const server = createServer(
    {
      headersTimeout: settings.readTimeoutMs,
      requestTimeout: settings.readTimeoutMs,
      keepAliveTimeout: settings.idleTimeoutMs,
      connectionsCheckingInterval: Math.min(MAX_CHECK_MS, Math.max(MIN_CHECK_MS, settings.readTimeoutMs / 5)),
      maxHeaderSize: MAX_HEADER_BYTES,
      // Checked at admission, where the refusal is a problem document.
      requireHostHeader: false,
    },
    app,
  );
  server.maxConnections = settings.maxConnections;
  server.on("connection", (socket) => connections.opened(socket));
  // Expectations other than 100-continue may be ignored (RFC 9110, section 10.1.1).
  server.on("checkExpectation", app);
  server.on("clientError", (error, socket) => connections.refuse(error, socket));
  server.on("drop", () => log.warn({ maxConnections: settings.maxConnections }, "a connection over the limit was dropped"));

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

/** Express' part: from a path to its endpoint. */
function application(parts: HttpServerParts, connections: Connections): Express {
  const app = express();
  app.disable("x-powered-by");
  app.set("etag", false);
  app.set("query parser", false);
  app.set("case sensitive routing", true);
  const serve = exchange(parts, connections);
  for (const endpoint of endpointsOf({ ...parts, headerName: parts.settings.auth.headerName })) {
    app.all(endpoint.path, (req, res) => serve(endpoint, req, res));
  }
  app.use((req, res) => serve(UNKNOWN, req, res));
  // Express' own refusal, of a path that it cannot decode. Four parameters make it a handler of errors.
  app.use((_error: unknown, req: Request, res: Response, _next: NextFunction) => serve(UNDECODABLE, req, res));
  return app;
}

const UNDECODABLE: Endpoint = { ...UNKNOWN };

/** Serves one request, from its admission to its answer. */
function exchange(parts: HttpServerParts, connections: Connections) {
  const { metrics, log } = parts;
  const authenticate = authenticator(parts.settings.auth, parts.keys);
  const admit = admitter(authenticate, parts.settings.allowedHosts);

  const answerTo = async (endpoint: Endpoint, req: Request): Promise<Answer> => {
    if (endpoint === UNDECODABLE) throw new HttpError("malformed-request", "the path cannot be decoded");
    const { caller, operation, allow } = admit(req, endpoint);
    if (operation === null) return noContent(["Allow", allow]);
    const body = operation.body === "ignored" ? undefined : await readJson(req);
    if (body === undefined && operation.body === "needed") throw new HttpError("malformed-json", "a JSON body is needed");
    const { id = "" } = req.params as { readonly id?: string };
    return operation.answer({ actor: caller.actor, id, url: req.url, body, accept: req.headers.accept });
  };

  return async (endpoint: Endpoint, req: Request, res: Response): Promise<void> => {
    const startedAt = performance.now();
    connections.began(res);
    let answer: Answer;
    try {
      answer = await answerTo(endpoint, req);
    } catch (error) {
      if (error instanceof ClientGoneError) return;
      answer = problemAnswer(error, (bug, requestId) =>
        log.error({ err: bug, requestId, method: req.method, endpoint: endpoint.path }, "a request failed"),
      );
    }
    connections.send(res, answer);
    const seconds = (performance.now() - startedAt) / 1_000;
    metrics?.observeRequest({ method: req.method, endpoint: endpoint.path, status: answer.status, seconds });
  };
}
