/** What would come of a request that is not made. */

import type { EpochMs } from "../base/time.ts";
import type { AllocateAsk } from "../decisions/commands.ts";
import { decide } from "../decisions/decide.ts";
import { requestOf } from "../decisions/submit.ts";
import { positionOf } from "../host/line.ts";
import type { HostState } from "../host/state.ts";
import type { LeasedGpu } from "../model/allocation.ts";
import { DomainError, type ErrorCode } from "../model/errors.ts";
import type { Actor } from "../model/ids.ts";
import { type Explanation, explain } from "./explain.ts";
import { type Eta, etaOf } from "./forecast.ts";

export type Plan =
  | { readonly outcome: "granted"; readonly gpus: readonly LeasedGpu[] }
  | {
      readonly outcome: "queued";
      readonly position: number;
      readonly explanation: Explanation;
      readonly eta: Eta | null;
    }
  | {
      readonly outcome: "refused";
      readonly code: ErrorCode;
      readonly reason: string;
      /** Per GPU, why not now; empty when it is no matter of now. */
      readonly gpus: Explanation["gpus"];
    };

/** Sorts behind every id of the same millisecond, as the newest request would. */
const LAST_SEQUENCE = "~".repeat(26);

/** The decision on `ask` at `now`, of which nothing is kept: the state is a value, and the next one is dropped. */
export function planOf(state: HostState, ask: AllocateAsk, actor: Actor, now: EpochMs): Plan {
  const command = { type: "allocate", id: `${ask.serviceName}-${LAST_SEQUENCE}`, ask, actor } as const;
  try {
    const after = decide(state, command, now).state;
    const allocation = after.allocations.get(command.id);
    if (allocation === undefined) throw new Error("a request that was accepted is nowhere");
    if (allocation.status !== "queued") return { outcome: "granted", gpus: allocation.lease.gpus };
    const { request } = allocation;
    const position = positionOf(after.line, request, after.policy);
    return {
      outcome: "queued",
      position,
      explanation: explain(request, after, now),
      eta: etaOf(request, after, now),
    };
  } catch (error) {
    if (!(error instanceof DomainError)) throw error;
    const { code, message: reason } = error;
    const waits = code === "no-gpu-free" || code === "queue-full";
    const gpus = waits ? explain(requestOf(command, state, now), state, now).gpus : new Map();
    return { outcome: "refused", code, reason, gpus };
  }
}
