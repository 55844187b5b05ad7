/** Calls to a kube-apiserver, over connections that stay open. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { Agent, request } from "undici";
import { ControllerError } from "../objects/errors.ts";
import { Count } from "../watching/figures.ts";
import { type Access, accessOf, givenAccess } from "./kubeconfig.ts";

const CALL_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** A server's wish to be left alone is heeded for so long at most. */
const LONGEST_WISH_MS = 60_000;
/** Ours in `managedFields`, and what is applied with it. */
export const FIELD_MANAGER = "gpu-orchestrator";

/**
 * This process among others of its kind: in the Lease, and in the audit log of a server. Two containers may have one hostname, and
 * both be the first process of theirs: by these alone both would lead.
 */
export const IDENTITY = `${hostname()}_${randomUUID().slice(0, 8)}_${process.pid}`;

export interface KubeSettings {
  /** `null`: `$KUBECONFIG`, `~/.kube/config`, or the pod's service account. */
  readonly kubeconfig: string | null;
  readonly context: string | null;
  /** Instead of a kubeconfig; absent or `null`: there is one, or a pod's account. */
  readonly given?: { readonly server: string; readonly token: string; readonly ca: string | null } | null;
  /** Whether a kubeconfig may skip the verification of TLS. */
  readonly allowInsecure?: boolean;
}

/** A refusal of the server: what its Status says. */
export class KubeError extends Error {
  readonly status: number;
  /** Such as `NotFound`, `AlreadyExists`, `Conflict`, `Expired`. */
  readonly reason: string;
  readonly causes: readonly { readonly reason?: string; readonly field?: string; readonly message?: string }[];
  readonly retryAfterMs: number | null;

  constructor(status: number, body: Partial<StatusBody>, retryAfterMs: number | null) {
    super(body.message ?? `status ${status}`);
    this.status = status;
    this.reason = body.reason ?? "";
    this.causes = body.details?.causes ?? [];
    this.retryAfterMs = retryAfterMs;
  }
}

interface StatusBody {
  readonly message: string;
  readonly reason: string;
  readonly details: { readonly causes?: KubeError["causes"] };
}

export interface Call {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

/** Writes a second, and how many may come at once after a quiet time. */
export interface Pace {
  readonly perSecond: number;
  readonly burst: number;
}

export class KubeConnection {
  readonly #pacer: Pacer | null;
  readonly calls = new Count("apiserver_calls_total", "Calls to the apiserver, by how they ended");
  readonly #settings: KubeSettings;
  /** `null`: there is no cluster to call yet. */
  #way: { readonly access: Access; readonly agent: Agent } | null = null;

  constructor(settings: KubeSettings, pace: Pace | null = null) {
    this.#pacer = pace === null ? null : new Pacer(pace);
    this.#settings = settings;
  }

  /** Looked for at each call until it is found: what is missing may come. @throws ControllerError */
  #found(): { readonly access: Access; readonly agent: Agent } {
    if (this.#way !== null) return this.#way;
    const { kubeconfig, context, given = null, allowInsecure = false } = this.#settings;
    try {
      const access = given === null ? accessOf(kubeconfig, context, allowInsecure, process.env) : givenAccess(given);
      const { ca, cert, key, verify } = access;
      const connect = {
        ...(ca === null ? {} : { ca }),
        ...(cert === null ? {} : { cert }),
        ...(key === null ? {} : { key }),
        rejectUnauthorized: verify,
        timeout: CONNECT_TIMEOUT_MS,
      };
      // A watch may be silent for as long as it likes: who watches tells a dead one.
      const agent = new Agent({ connect, allowH2: false, bodyTimeout: 0, headersTimeout: CALL_TIMEOUT_MS });
      this.#way = { access, agent };
      return this.#way;
    } catch (error) {
      throw new ControllerError("backend-unavailable", (error as Error).message);
    }
  }

  /** Waits until nobody else wants to write, and half of what may come at once is left for them. */
  async leisure(): Promise<void> {
    await this.#pacer?.leisure();
  }

  async call<T>(path: string, call: Call = {}): Promise<T> {
    const isWrite = call.method !== undefined && call.method !== "GET";
    // A Lease that waited behind others could run out.
    if (isWrite && !path.includes("/leases")) await this.#pacer?.turn();
    const verb = call.method ?? "GET";
    const answer = await this.#send(path, call, AbortSignal.timeout(CALL_TIMEOUT_MS)).catch((error) => {
      this.calls.add({ verb, code: "none" });
      throw error;
    });
    this.calls.add({ verb, code: String(answer.statusCode) });
    const text = await answer.body.text().catch((error: Error) => {
      throw unreachable(this.#found().access.server, error);
    });
    if (answer.statusCode >= 400) throw refusal(answer.statusCode, text, answer.headers["retry-after"]);
    return objectIn(text, this.#found().access.server) as T;
  }

  /**
   * The objects that a stream writes, one a line. Ends when the server ends it; `signal` ends it, too.
   *
   * @param opened is run when the server has taken the call, which may be long before it says anything.
   */
  async *stream(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
    opened: () => void = () => undefined,
  ): AsyncGenerator<unknown> {
    const answer = await this.#send(path, { query, signal }, signal);
    if (answer.statusCode >= 400) {
      throw refusal(answer.statusCode, await answer.body.text(), answer.headers["retry-after"]);
    }
    opened();
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of answer.body) {
      const lines = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.trim() !== "") yield objectIn(line, this.#found().access.server);
    }
  }

  /** Server-side apply: what `object` names is ours, what it leaves out and nobody else owns goes. */
  apply<T>(path: string, object: unknown, signal?: AbortSignal): Promise<T> {
    return this.call(path, {
      method: "PATCH",
      query: { fieldManager: FIELD_MANAGER, force: "true" },
      contentType: "application/apply-patch+yaml",
      body: object,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async close(): Promise<void> {
    await this.#way?.agent.destroy();
  }

  async #send(path: string, { method = "GET", query, body, contentType, signal }: Call, until: AbortSignal) {
    const { access, agent } = this.#found();
    const search = query === undefined ? "" : `?${new URLSearchParams(query)}`;
    const signals = signal === undefined || signal === until ? until : AbortSignal.any([signal, until]);
    try {
      const ask = (authorization: string | null) =>
        request(`${access.server}${path}${search}`, {
          method,
          dispatcher: agent,
          signal: signals,
          headers: {
            accept: "application/json",
            "user-agent": `gpu-orchestrator (${IDENTITY})`,
            ...(authorization === null ? {} : { authorization }),
            ...(body === undefined ? {} : { "content-type": contentType ?? "application/json" }),
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
      const first = await access.authorization();
      const answer = await ask(first);
      if (answer.statusCode !== 401 || first === null || !access.refused(first)) return answer;
      // It was taken back before its time: one more, if there is another.
      const second = await access.authorization();
      if (second === first) return answer;
      await answer.body.dump();
      return await ask(second);
    } catch (error) {
      if (signal?.aborted === true) throw error;
      throw unreachable(access.server, error as Error);
    }
  }
}

/** A bucket that fills by so many a second: who finds it empty waits, in order. */
class Pacer {
  readonly #pace: Pace;
  #left: number;
  #at = performance.now();

  constructor(pace: Pace) {
    this.#pace = pace;
    this.#left = pace.burst;
  }

  async turn(): Promise<void> {
    this.#refill();
    this.#left--;
    if (this.#left >= 0) return;
    await pause((-this.#left / this.#pace.perSecond) * 1_000);
  }

  async leisure(): Promise<void> {
    const { perSecond, burst } = this.#pace;
    for (;;) {
      this.#refill();
      const missing = burst / 2 - this.#left;
      if (missing <= 0) return;
      await pause((missing / perSecond) * 1_000);
    }
  }

  #refill(): void {
    const { perSecond, burst } = this.#pace;
    const now = performance.now();
    this.#left = Math.min(burst, this.#left + ((now - this.#at) / 1_000) * perSecond);
    this.#at = now;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function refusal(status: number, text: string, retryAfter: string | string[] | undefined): KubeError {
  const seconds = Number(retryAfter);
  // None, a date or nonsense is no wish, and without a pause it would be asked again and again.
  const retryAfterMs = seconds > 0 ? Math.min(LONGEST_WISH_MS, seconds * 1_000) : null;
  try {
    return new KubeError(status, JSON.parse(text) as StatusBody, retryAfterMs);
  } catch {
    // API priority and fairness answers in plain text.
    return new KubeError(status, { message: text.slice(0, 500) }, retryAfterMs);
  }
}

/** A proxy on the way, or a server that is ill, may say anything. @throws ControllerError */
function objectIn(text: string, server: string): object {
  try {
    const said: unknown = JSON.parse(text);
    if (typeof said === "object" && said !== null) return said;
  } catch {
    // As what follows.
  }
  throw unreachable(server, new Error("its answer is no object in JSON"));
}

function unreachable(server: string, error: Error): ControllerError {
  return new ControllerError("backend-unavailable", `${server}: ${error.message}`);
}
