/** One request, from its admission to its answer. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { withoutKeys } from "../../platform/new-key.ts";
import { printable } from "../../platform/printable.ts";
import { type Admitted, admitter, isQuestion, WRONG_KEY } from "./admission.ts";
import { type Answer, headOf, noContent } from "./answers.ts";
import type { Auditing, AuditParts, Noted } from "./auditing.ts";
import { type ApiKey, type AuthSettings, authenticator, type Caller } from "./auth.ts";
import { ClientGoneError, readJson, readText } from "./body.ts";
import { demandNoQuery } from "./checks.ts";
import { addressOf } from "./client-address.ts";
import type { ConnectionLimits, Connections, Exchange, OpenStream } from "./connections.ts";
import type { Call, Endpoint, Hold, Operation, Origin } from "./endpoint.ts";
import { bodyCame, enter, nothingStored } from "./entering.ts";
import { type LimitSettings, Limits } from "./limits.ts";
import { nameOrigin } from "./pages-elsewhere.ts";
import type { Peers } from "./peers.ts";
import { BUG_CODE, HttpError, problemAnswer, type Refusals, type RefusalWords, refusalBy } from "./problems.ts";
import { RefusalLog, serviceNamed } from "./refusal-log.ts";
import { proofOf } from "./unix-socket.ts";

export interface HttpSettings extends ConnectionLimits {
  readonly auth: AuthSettings;
  /** Names accepted in `Host` beside addresses, `localhost` and the machine's own. */
  readonly allowedHosts: readonly string[];
  /** Pages elsewhere that may call: see pages-elsewhere.ts. */
  readonly allowedOrigins: readonly string[];
  /** For a whole request to arrive, from its first byte (or the connection's start) on. */
  readonly readTimeoutMs: number;
  /** For the next request on a connection. */
  readonly idleTimeoutMs: number;
  /** Addresses and CIDR blocks whose `X-Forwarded-For` says where a request comes from. */
  readonly trustedProxies: readonly string[];
  /** At the end, for requests that are being served. */
  readonly drainTimeoutMs: number;
  /** `null`: plain HTTP. */
  readonly certificate: Certificate | null;
}

/** What a server shows itself with over TLS, in PEM. */
export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
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
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export interface ServerParts {
  readonly settings: HttpSettings;
  /** Of the program, named by every answer. */
  readonly version: string;
  /** The keys as they are now. A new list, not a changed one, when they change. */
  readonly keys: () => readonly ApiKey[];
  /** Who is at the other end of connections to the socket; left out where there is none. */
  readonly peers?: Peers;
  /** A request has come with this key. */
  readonly onKeyUsed?: (keyId: string) => void;
  /** What one client may have, as it is now. Another object when it changes. */
  readonly limits: () => LimitSettings;
  readonly metrics: RequestMetrics | null;
  /** @param isDraining the server takes no new work: what is ready must say so. */
  readonly endpoints: (isDraining: () => boolean) => readonly Endpoint[];
  /** What the rooms behind the endpoints refuse. */
  readonly refusals: Refusals;
  /** What a request is refused with while the server stops. */
  readonly shuttingDown: () => Error;
  /** Adds to a problem what this API's clients look for beside RFC 9457. */
  readonly problemAs?: (problem: Answer) => Answer;
  /** Who changed or was refused what; `null`: it is written down nowhere. */
  readonly audit: AuditParts | null;
  readonly log: Log;
}

/** Characters of an id that go to the audit. */
const MAX_OBJECT = 128;
const NO_DOCUMENT = "a document is needed, as YAML or JSON";

/** What nothing stands at. One label for the metrics, whatever the path. */
export const UNKNOWN: Endpoint = { path: "(unknown)", documented: "(unknown)", access: "key", methods: {}, allow: "" };
export const UNDECODABLE: Endpoint = { ...UNKNOWN };

/** The path's parameters are what express' router adds to node's request. */
export type Request = IncomingMessage & {
  readonly params?: { readonly id?: string; readonly rest?: readonly string[] };
};
type Fail = (error: unknown) => void;
type Serve = (endpoint: Endpoint, req: Request, exchange: Exchange) => void;

/** A bug of the server itself: not even a 500 could be sent. */
export function unserved(log: Log, error: unknown, req: Request, res: ServerResponse): void {
  log.error({ err: error, method: req.method }, "a request could not be answered");
  res.destroy();
}

/** What serves one request, from its admission to its answer. Only what has to wait is a promise. */
export function serving(parts: ServerParts, connections: Connections, auditing: Auditing | null): Serve {
  const { metrics, log, settings, refusals } = parts;
  const limits = new Limits(parts.limits);
  const addressIn = addressOf(settings.trustedProxies);
  const byKey = authenticator(settings.auth, parts.keys);
  // Over the socket it is known, or to be proved, who calls. A key is for those who want to be somebody else.
  const authenticate = (req: Request) => {
    const peer = parts.peers?.of(req.socket) ?? null;
    if (peer === null) return byKey(req.headers);
    const found = settings.auth.enabled ? byKey(req.headers) : "no-key";
    return found === "no-key" ? peer : found;
  };
  const admit = admitter(authenticate, settings, {
    onWrongKey: (req) => limits.failedAuthentication(addressIn(req)),
    nonce: () => parts.peers?.nonce() ?? "",
  });

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
    const { origin } = exchange;
    if (origin === null || answer.status >= 400) connections.send(exchange, answer);
    else {
      connections.send(exchange, answer, origin.requestId);
      auditing?.answered(endpoint, { ...origin, ...asked(endpoint, req, exchange) });
    }
    const seconds = (performance.now() - startedAt) / 1_000;
    metrics?.observeRequest({ ...told, status: answer.status, seconds });
  };

  const refusalLog = new RefusalLog((facts, message) => log.info(facts, message));
  /** Who only looks, and is refused, has lost nothing; who is nobody is in the audit. */
  const noteRefusal = (refusal: RefusalWords, endpoint: Endpoint, req: Request, { caller, serviceName }: Exchange) => {
    if (caller === null || req.method === "GET" || req.method === "HEAD") return;
    const named = serviceName === null ? {} : { service_name: serviceName };
    const { principal } = caller.actor;
    refusalLog.refused({ action: actionOf(endpoint, req), principal, ...named, ...refusal }, performance.now());
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
    const { caller, operation } = admit(req, endpoint, (known) => {
      exchange.caller = known;
      if (known.keyId !== null) parts.onKeyUsed?.(known.keyId);
    });
    if (connections.draining && endpoint.access !== "probe") throw parts.shuttingDown();
    if (operation === null) {
      done(noContent(["Allow", endpoint.allow]));
      return;
    }
    if (endpoint.access !== "probe") {
      enter({ limits, connections }, req, exchange, { caller, operation, address: addressIn(req) });
    }
    // Probes, scrapers and browsers put parameters of their own behind what is open.
    if (endpoint.access === "key" && operation.takesQuery !== true) demandNoQuery(req.url ?? "");
    if (mayChange(req, operation)) exchange.origin = originOf(endpoint, req, caller, addressIn(req));
    const keys = parts.keys();
    // A key that is withdrawn ends what it has opened.
    const mayGoOn = () => (parts.keys() === keys && !hasExpiring(keys)) || isStill(caller, () => admit(req, endpoint));
    const respond = (body: unknown, bytes: number) => {
      try {
        bodyCame(connections, exchange, bytes);
        if (operation.body !== "ignored") demandStill(mayGoOn);
        exchange.serviceName = serviceNamed(body);
        if (body === undefined && operation.body === "needed")
          throw new HttpError("malformed-json", operation.takesText ? NO_DOCUMENT : "a JSON body is needed");
        const answer = operation.answer(callOf(req, exchange, caller, body, holding(exchange, connections, mayGoOn)));
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
    nameOrigin(req, exchange.res, endpoint, settings);
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
      const requestId = exchange.origin?.requestId ?? randomUUID();
      const refusal = refusalBy(error, refusals);
      if (endpoint.access !== "probe" && !isQuestion(error, proofOf(req) !== null)) {
        const noted = { address: addressIn(req), action: actionOf(endpoint, req), requestId };
        auditing?.refused({ ...noted, ...asked(endpoint, req, exchange) }, refusal?.code ?? BUG_CODE);
      }
      if (refusal !== null) noteRefusal(refusal, endpoint, req, exchange);
      const answer = problemAnswer(error, refusals, requestId, (bug) =>
        log.error({ err: bug, request_id: requestId, method: req.method, endpoint: endpoint.path }, "a request failed"),
      );
      done(parts.problemAs?.(answer) ?? answer);
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
        demandStill(mayGoOn);
        return result;
      });
  };
}

function mayChange({ method }: Request, { role }: Operation): boolean {
  return method !== "GET" && method !== "HEAD" && role !== "read";
}

function originOf(endpoint: Endpoint, req: Request, { keyId }: Caller, address: string): Origin {
  return { keyId, address, action: actionOf(endpoint, req), requestId: randomUUID() };
}

function actionOf({ documented }: Endpoint, { method }: Request): string {
  return `${method} ${documented}`;
}

/** Who asked, and about what. A key that stands where an id belongs is not written down. */
function asked({ idForm }: Endpoint, { params }: Request, { caller }: Exchange): Pick<Noted, "caller" | "object"> {
  const id = params?.id;
  if (id === undefined || idForm?.test(id) === false) return { caller, object: null };
  return { caller, object: printable(withoutKeys(id)).slice(0, MAX_OBJECT).toWellFormed() };
}

function callOf(req: Request, { client, origin }: Exchange, caller: Caller, body: unknown, hold: Hold): Call {
  const { headers } = req;
  const { role, keyed, delegate = false } = caller;
  return {
    actor: origin === null ? caller.actor : { ...caller.actor, origin },
    role,
    keyed,
    delegate,
    uid: caller.uid ?? null,
    id: req.params?.id ?? "",
    rest: req.params?.rest?.join("/") ?? "",
    url: req.url ?? "",
    port: req.socket.localPort ?? null,
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

/** Whether a request would be admitted again, as the same caller's. */
function isStill({ actor, role, delegate }: Caller, admit: () => Admitted): boolean {
  try {
    const { caller } = admit();
    return caller.actor.principal === actor.principal && caller.role === role && caller.delegate === delegate;
  } catch {
    return false;
  }
}

/** @throws HttpError when the key that it came with is in force no more, or is somebody else's. */
function demandStill(mayGoOn: () => boolean): void {
  if (!mayGoOn()) throw new HttpError("unauthenticated", "the API key was withdrawn", WRONG_KEY);
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
