/** A daemon without its other rooms: the real HTTP server and scheduler, over a store and a clock of the test's. */

import { createHash } from "node:crypto";
import { Client, type Dispatcher } from "undici";
import { expect, onTestFinished } from "vitest";
import type { Event } from "../../src/core/host/events.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import type { GpuReading, HostReading } from "../../src/core/model/reading.ts";
import { NO_LIMITS } from "../../src/http/exchange/limits.ts";
import { type ApiKey, createHttpServer, type HttpServerParts, type HttpSettings } from "../../src/http/server.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import { sortableIds } from "../../src/platform/ids.ts";
import { NO_AUDIT } from "../../src/ports/audit.ts";
import { NO_KEYS } from "../../src/ports/keys.ts";
import { NO_KNOWLEDGE } from "../../src/ports/knowledge.ts";
import { NO_LESSONS } from "../../src/ports/learned.ts";
import { NO_PAST } from "../../src/ports/past-decisions.ts";
import { NO_PROCESSES } from "../../src/ports/processes.ts";
import type { Turn } from "../../src/ports/store.ts";
import { GpuHistory } from "../../src/scheduler/gpu-history.ts";
import { Scheduler } from "../../src/scheduler/scheduler.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { gpuReading, seen } from "../fixtures/readings.ts";
import { DEFAULT_POLICY } from "../simulation/simulated-host.ts";

export const SETTINGS: HttpSettings = {
  auth: { enabled: false, headerName: "X-API-Key" },
  allowedHosts: [],
  allowedOrigins: [],
  trustedProxies: [],
  readTimeoutMs: 15_000,
  writeTimeoutMs: 15_000,
  idleTimeoutMs: 60_000,
  maxConnections: 4_096,
  maxStreams: 300,
  streamStallMs: 30_000,
  drainTimeoutMs: 5_000,
  certificate: null,
};

/** A store whose commits can be held back, as a slow disk does. */
export class SlowStore extends MemoryStore {
  #isHeld: (turn: Turn) => boolean = () => false;
  #free: () => void = () => undefined;

  /** Holds the next commit that has such an event; resolves once it is asked for, with what lets it through. */
  holdCommit(type: Event["type"]): Promise<() => void> {
    // A scheduler stops only after its commit.
    onTestFinished(() => this.#free());
    return new Promise((reached) => {
      this.#isHeld = ({ events }) => {
        if (!events.some((event) => event.type === type)) return false;
        this.#isHeld = () => false;
        reached(() => this.#free());
        return true;
      };
    });
  }

  override async commit(turn: Turn): Promise<void> {
    if (this.#isHeld(turn)) {
      await new Promise<void>((resolve) => {
        this.#free = resolve;
      });
    }
    return super.commit(turn);
  }
}

export interface Given extends Partial<Omit<HttpServerParts, "settings" | "scheduler">> {
  readonly settings?: Partial<HttpSettings>;
  readonly policy?: Partial<Policy>;
  /** What the first reading shows; `null`: none is taken. */
  readonly gpus?: readonly GpuReading[] | null;
  readonly store?: MemoryStore;
}

export interface Reply {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData["headers"];
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks at whatever is there.
  readonly json: any;
}

export interface Ask {
  /** Sent as JSON; text is sent as it is. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

export async function startDaemon(given: Given = {}) {
  const { settings, policy, gpus = [gpuReading(0), gpuReading(1)], store = new MemoryStore(), ...parts } = given;
  const clock = new ManualClock();
  /** What the log has of refusals. */
  const refused: object[] = [];
  const logged: { level: "warn" | "error"; facts: object; message: string }[] = [];
  const scheduler = new Scheduler(
    { store, clock, newId: sortableIds(), policy: { ...DEFAULT_POLICY, ...policy }, tickIntervalMs: 5_000 },
    store.load(),
  );
  await scheduler.start("boot", clock.now());
  const see = (readings: readonly GpuReading[], over: Partial<HostReading> = {}) =>
    scheduler.observe(seen(readings, clock.now(), over));
  if (gpus !== null) await see(gpus);
  const history = new GpuHistory({ store: store.history, clock, scheduler });
  history.start();
  onTestFinished(() => history.stop());
  const http = createHttpServer({
    scheduler,
    history,
    settings: { ...SETTINGS, ...settings },
    keys: () => [],
    knowledge: NO_KNOWLEDGE,
    lessons: NO_LESSONS,
    pastDecisions: NO_PAST,
    processes: NO_PROCESSES,
    audit: NO_AUDIT,
    keyBook: NO_KEYS,
    limits: () => NO_LIMITS,
    pendingDeliveries: () => 0,
    checkWebhookUrl: () => null,
    webhookTester: () => null,
    metrics: null,
    readiness: () => null,
    version: "0.0.0",
    log: {
      info: (facts) => refused.push(facts),
      warn: (facts, message) => logged.push({ level: "warn", facts, message }),
      error: (facts, message) => logged.push({ level: "error", facts, message }),
    },
    ...parts,
  });
  const { port } = await http.listen("127.0.0.1", 0);
  /** Calls of a client with a connection of its own. */
  const connect = () => {
    const client = new Client(`http://127.0.0.1:${port}`);
    const call = async (method: string, path: string, { body, headers = {} }: Ask = {}): Promise<Reply> => {
      const text = body === undefined || typeof body === "string" ? (body as string | undefined) : JSON.stringify(body);
      const type: Record<string, string> = text === undefined ? {} : { "content-type": "application/json" };
      const answer = await client.request({
        method: method as Dispatcher.HttpMethod,
        path,
        headers: { ...type, ...headers },
        body: text ?? null,
      });
      return readReply(answer, method);
    };
    onTestFinished(() => client.destroy());
    return call;
  };
  onTestFinished(async () => {
    http.server.closeAllConnections();
    http.server.close();
    await scheduler.stop();
  });
  const call = connect();
  const allocate = (body: object = {}, headers: Record<string, string> = {}) =>
    call("POST", "/gpu/allocate", { body: { service_name: "trainer", ...body }, headers });
  return { ...http, port, scheduler, clock, store, logged, refused, see, connect, call, allocate };
}

async function readReply(answer: Dispatcher.ResponseData, method: string): Promise<Reply> {
  const text = await answer.body.text();
  const { statusCode: status, headers } = answer;
  const reply = { status, headers, text, json: isJson(headers) && text !== "" ? JSON.parse(text) : undefined };
  if (status >= 400 && method !== "HEAD") expectProblem(reply);
  return reply;
}

function isJson(headers: Reply["headers"]): boolean {
  return /^application\/(?:problem\+)?json\b/.test(String(headers["content-type"]));
}

/** Refusals that name fields where the document has any. */
const ABOUT_DOCUMENTS: ReadonlySet<string> = new Set(["document-incomplete", "document-invalid"]);

/** RFC 9457, with the members that the contract adds. */
export function expectProblem({ status, headers, json }: Reply): void {
  expect(headers["content-type"]).toBe("application/problem+json");
  const id = String(headers["x-request-id"]);
  expect(json).toMatchObject({
    status,
    title: expect.any(String),
    detail: expect.any(String),
    code: expect.stringMatching(/^[a-z-]+$/),
    type: `/docs/problems#${json.code}`,
    instance: `urn:uuid:${id}`,
  });
  if (json.code === "validation-failed") expect(json.errors.length).toBeGreaterThan(0);
  else if (!ABOUT_DOCUMENTS.has(json.code)) expect(json).not.toHaveProperty("errors");
}

/** A key as the configuration has it after it was read. */
export function apiKey(key: string, principal: string, role: ApiKey["role"] = "allocate"): ApiKey {
  return { sha256: createHash("sha256").update(key).digest("hex"), principal, role };
}
