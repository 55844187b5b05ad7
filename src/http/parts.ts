import type { AuditStore } from "../ports/audit.ts";
import type { Keys } from "../ports/keys.ts";
import type { Knowledge } from "../ports/knowledge.ts";
import type { Lessons } from "../ports/learned.ts";
import type { PastDecisions } from "../ports/past-decisions.ts";
import type { Processes } from "../ports/processes.ts";
import type { WebhookTester } from "../ports/webhooks.ts";
import type { GpuHistory } from "../scheduler/gpu-history.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import type { GrantAnswers } from "./allocations/grant-answers.ts";
import type { Idempotency } from "./exchange/idempotency.ts";
import type { News } from "./exchange/news.ts";
import type { ProblemKind } from "./exchange/problems.ts";
import type { ReadingFeed } from "./readings/feed.ts";
import type { MoreCalls } from "./service/openapi.ts";

export interface MetricsPage {
  render(accept: string | undefined): Promise<{ readonly contentType: string; readonly body: string }>;
}

export interface EndpointParts {
  readonly scheduler: Scheduler;
  /** Why webhooks may not be sent there; `null` when they may. */
  readonly checkWebhookUrl: (url: string) => string | null;
  /** Sends one to see whether its receiver takes it; `null`: the daemon sends none now. */
  readonly webhookTester: () => WebhookTester | null;
  /** Webhooks of a principal that are still to be delivered, counted up to `atMost`. */
  readonly pendingDeliveries: (principal: string, atMost: number) => number;
  /** `null`: there is no such page. */
  readonly metrics: MetricsPage | null;
  readonly knowledge: Knowledge;
  readonly lessons: Lessons;
  readonly pastDecisions: PastDecisions;
  readonly processes: Processes;
  /** Why the daemon cannot serve now; `null` when it can. */
  readonly readiness: () => string | null;
  readonly version: string;
  /** The header that carries a key; `null`: no key is asked for. */
  readonly headerName: string | null;
  readonly grants: GrantAnswers;
  readonly idempotency: Idempotency;
  readonly readings: ReadingFeed;
  readonly history: GpuHistory;
  readonly audit: AuditStore;
  readonly keyBook: Keys;
  /** Tells that something about work has changed; `null`: this daemon runs none. */
  readonly workNews: News | null;
  /** The calls of running work for the API's document, and its problems; `null`: there are none. */
  readonly workCalls: (() => Promise<MoreCalls>) | null;
  readonly workProblems: Readonly<Record<string, ProblemKind>>;
}
