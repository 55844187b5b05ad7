/** What the routes of work have in common. */

import { queryOf } from "../../http/exchange/checks.ts";
import type { Call, Operation } from "../../http/exchange/endpoint.ts";
import type { Idempotency } from "../../http/exchange/idempotency.ts";
import { invalid } from "../../http/exchange/problems.ts";
import { unknownField } from "../../wire/asking.ts";
import type { Profile } from "../../work/documents/spec.ts";
import type { ModelSettings } from "../../work/documents/workload.ts";
import { WorkError } from "../../work/errors.ts";
import type { ExecutorSettings } from "../../work/executor-settings.ts";
import type { Books } from "../books.ts";
import type { DeliveryRows } from "../deliveries.ts";
import type { Elsewhere } from "../elsewhere/elsewhere.ts";
import type { WorkCounters } from "../exposition.ts";
import type { Gate } from "../gate.ts";
import type { Leases } from "../leases.ts";

export interface WorkRouteSettings {
  readonly executors: Readonly<Record<string, ExecutorSettings>>;
  readonly taskTypes: Readonly<Record<string, string>>;
  readonly models: Readonly<Record<string, ModelSettings>>;
  readonly defaultModels: { readonly vllm: string | null; readonly ppo: string | null };
  readonly profiles: Readonly<Record<string, Profile>>;
  readonly maxTasks: number;
  readonly maxWorkloads: number;
  readonly serviceHost: string;
  /** Where services listen: whether anybody but this host reaches them there. */
  readonly services: { readonly name: string; readonly isLoopback: boolean };
  /** Absolute. */
  readonly dir: string;
  readonly resultsDir: string;
}

export interface RouteParts {
  readonly books: Books;
  readonly leases: Leases;
  readonly gate: Gate;
  readonly elsewhere: Elsewhere;
  readonly counters: WorkCounters;
  readonly settings: WorkRouteSettings;
  readonly idempotency: Idempotency;
  readonly deliveries: Pick<DeliveryRows, "ofTask" | "pendingOf">;
  /** Why nothing may be sent there; `null`: it may. */
  readonly checkUrl: (url: string) => string | null;
  readonly newId: () => string;
  readonly version: string;
  readonly startedAt: number;
}

/** `null`: work is switched off. */
export type MaybeParts = RouteParts | null;

/** An operation that answers 503 while work is switched off. */
export function working(
  parts: MaybeParts,
  operation: Omit<Operation, "answer">,
  answer: (parts: RouteParts, call: Call) => ReturnType<Operation["answer"]>,
): Operation {
  return {
    ...operation,
    answer(call) {
      if (parts === null) throw new WorkError("work-disabled", "work.enabled is false");
      return answer(parts, call);
    },
  };
}

/**
 * The parameters of a call that takes these.
 *
 * @throws HttpError 422 when others are given.
 */
export function parametersOf<Name extends string>(url: string, ...names: Name[]): { readonly [name in Name]?: string } {
  const given = queryOf(url);
  const others = Object.keys(given).filter((name) => !(names as string[]).includes(name));
  if (others.length > 0) throw invalid(others.map((path) => ({ path, message: unknownField(path, names) })));
  return given as { readonly [name in Name]?: string };
}

const BY_DEFAULT: Profile = { cpuMillis: 1_000, memoryBytes: 2 * 2 ** 30, gpus: 0 };

/** What a document that says nothing of it gets: the profile `default`, where the settings have one. */
export function byDefault({ settings }: RouteParts): Profile {
  return Object.hasOwn(settings.profiles, "default") ? (settings.profiles.default as Profile) : BY_DEFAULT;
}

export function mayTouch({ actor }: Call, owner: string): boolean {
  return actor.admin || actor.principal === owner;
}

/** @throws WorkError `not-owner` */
export function demandOwner(call: Call, owner: string, what: string): void {
  if (!mayTouch(call, owner)) throw new WorkError("not-owner", `${what} belongs to another principal`);
}

/** Waits until `test` holds, for so long; not at all when this request may not wait. */
export async function waitUntil({ books }: RouteParts, call: Call, ms: number, test: () => boolean): Promise<void> {
  const until = books.now() + ms;
  const held = call.hold(async (signal) => {
    while (!test() && !signal.aborted && books.now() < until) await books.change(until - books.now(), signal);
  });
  if (held !== null) await held;
}
