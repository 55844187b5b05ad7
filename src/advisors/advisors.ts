/**
 * Asks the two services of the reference, beside the hot path.
 *
 * 1. Nothing waits for them longer than it said it would: an answer that comes later is kept for the next.
 * 2. DeepAgents takes one call at a time: while one is under way, no other is made.
 * 3. What they say is kept for a while, nothing too, so that an analysis and the allocate after it see the same.
 * 4. A service that fails is left alone for a while (line.ts).
 */
import type { Advice } from "../core/analyzer/known.ts";
import type { Clock } from "../platform/clock.ts";
import type { KnowledgeAsk, Workflow } from "../ports/knowledge.ts";
import { callForJson } from "./call.ts";
import { adviceIn, factsOf, questionOf } from "./deepagents.ts";
import { Line } from "./line.ts";

/** It can take a minute. */
const DEEPAGENTS_MS = 90_000;
const GRAPH_MS = 10_000;
const KEPT_MS = 10 * 60_000;
/** What a failed call leaves: it is not tried again for so long. */
const FAILED_KEPT_MS = 60_000;
const MOST_KEPT = 1_000;
const MAX_DEPENDENCIES = 64;
const WORKFLOW_ID = /^[A-Za-z0-9._:-]{1,128}$/;

export interface AdvisorSettings {
  /** `null`: not asked. */
  readonly deepagentsUrl: string | null;
  readonly graphServiceUrl: string | null;
}

export interface AdvisorLog {
  warn(facts: object, message: string): void;
}

interface Kept<T> {
  readonly value: T | null;
  readonly until: number;
}

/** One service: what it said, and what it is being asked. */
class Service<T> {
  readonly line: Line;
  readonly #clock: Clock;
  readonly #name: string;
  readonly #log: AdvisorLog;
  readonly #atOnce: number;
  readonly #kept = new Map<string, Kept<T>>();
  readonly #asking = new Map<string, Promise<void>>();

  constructor(name: string, line: Line, clock: Clock, log: AdvisorLog, atOnce: number) {
    this.#name = name;
    this.line = line;
    this.#clock = clock;
    this.#log = log;
    this.#atOnce = atOnce;
  }

  /** What it says, if it says it within `waitMs`; 0 asks nothing. */
  async answer(key: string, waitMs: number, ask: () => Promise<T | null>): Promise<T | null> {
    const known = this.#keptOf(key);
    if (known !== null) return known.value;
    if (waitMs === 0) return null;
    const asking = this.#asking.get(key) ?? this.#ask(key, ask);
    if (asking === null) return null;
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(waitMs, resolve);
      void asking.then(() => {
        cancel();
        resolve();
      });
    });
    return this.#keptOf(key)?.value ?? null;
  }

  #keptOf(key: string): Kept<T> | null {
    const kept = this.#kept.get(key);
    return kept !== undefined && this.#clock.now() < kept.until ? kept : null;
  }

  #ask(key: string, ask: () => Promise<T | null>): Promise<void> | null {
    if (this.#asking.size >= this.#atOnce || !this.line.isOpen) return null;
    const asking = ask()
      .then(
        (value) => {
          this.line.succeeded();
          this.#keep(key, value, KEPT_MS);
        },
        (error: unknown) => {
          this.line.failed();
          this.#keep(key, null, FAILED_KEPT_MS);
          this.#log.warn({ advisor: this.#name, error: String(error) }, "an advisor did not answer");
        },
      )
      .finally(() => this.#asking.delete(key));
    this.#asking.set(key, asking);
    return asking;
  }

  #keep(key: string, value: T | null, forMs: number): void {
    this.#kept.delete(key);
    this.#kept.set(key, { value, until: this.#clock.now() + forMs });
    const oldest = this.#kept.keys().next();
    if (this.#kept.size > MOST_KEPT && !oldest.done) this.#kept.delete(oldest.value);
  }
}

export class Advisors {
  readonly #deepagents: Service<Advice> | null;
  readonly #graph: Service<Workflow> | null;
  /** Ends the calls that are under way when the daemon does. */
  readonly #end = new AbortController();

  constructor({ deepagentsUrl, graphServiceUrl }: AdvisorSettings, clock: Clock, log: AdvisorLog) {
    const service = <T>(name: string, url: string | null, atOnce: number) =>
      url === null ? null : new Service<T>(name, new Line(url, clock), clock, log, atOnce);
    this.#deepagents = service<Advice>("DeepAgents", deepagentsUrl, 1);
    this.#graph = service<Workflow>("graph service", graphServiceUrl, 4);
  }

  /** Looks whether they are there. */
  async start(): Promise<void> {
    await Promise.all([this.#deepagents?.line.start(), this.#graph?.line.start()]);
  }

  stop(): void {
    this.#deepagents?.line.stop();
    this.#graph?.line.stop();
    this.#end.abort();
  }

  /** `null`: nobody is asked. */
  advice(ask: KnowledgeAsk, waitMs: number): Promise<Advice | null> | null {
    const service = this.#deepagents;
    // Who states everything is not advised.
    if (service === null || (ask.requiredGpus !== null && ask.minMemoryMib !== null && ask.priority !== null))
      return null;
    const facts = factsOf(ask);
    return service.answer(JSON.stringify(facts), waitMs, async () => {
      const url = below(service.line.url, "invoke/structured");
      return adviceIn(await callForJson(url, this.#signal(DEEPAGENTS_MS), questionOf(facts)));
    });
  }

  /** What the graph service says of a workflow; `null`: nothing, or it is not asked. */
  async workflow(id: string, waitMs: number): Promise<Workflow | null> {
    const service = this.#graph;
    if (service === null || !WORKFLOW_ID.test(id)) return null;
    return service.answer(id, waitMs, async () => {
      const url = below(service.line.url, `workflow/${encodeURIComponent(id)}`);
      return workflowIn(await callForJson(url, this.#signal(GRAPH_MS)));
    });
  }

  #signal(timeoutMs: number): AbortSignal {
    return AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#end.signal]);
  }
}

function below(base: URL, path: string): URL {
  const root = base.href.endsWith("/") ? base.href : `${base.href}/`;
  return new URL(path, root);
}

/** Of a free-form answer only the ids of what the workflow depends on are read. */
function workflowIn(answer: unknown): Workflow {
  if (typeof answer !== "object" || answer === null) return { isKnown: false, dependencies: [] };
  const given = (answer as { readonly dependencies?: unknown }).dependencies;
  const ids = Array.isArray(given)
    ? given.filter((id): id is string => typeof id === "string" && WORKFLOW_ID.test(id))
    : [];
  return { isKnown: true, dependencies: ids.slice(0, MAX_DEPENDENCIES) };
}
