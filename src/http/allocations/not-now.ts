/** Why a request that does not want to wait is refused: of each GPU what a plan says of it. */
import type { AllocateAsk } from "../../core/decisions/commands.ts";
import { drainWords } from "../../core/explain/explain.ts";
import { planOf } from "../../core/explain/plan.ts";
import { NoGpuFreeError } from "../../core/model/errors.ts";
import type { Actor } from "../../core/model/ids.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import { reasonsView } from "./outlook.ts";

type Reasons = ReturnType<typeof reasonsView>;

class NotNowError extends NoGpuFreeError {
  readonly members: { readonly gpus: Reasons };

  constructor(message: string, gpus: Reasons) {
    super(message);
    this.members = { gpus };
  }
}

/** The error to throw for one that the scheduler threw, judged by the host as it stands now. */
export function explained(error: unknown, ask: AllocateAsk, actor: Actor, scheduler: Scheduler): unknown {
  if (!(error instanceof NoGpuFreeError)) return error;
  const { state } = scheduler;
  const plan = planOf(state, ask, actor, scheduler.now());
  const gpus = plan.outcome === "refused" ? reasonsView(plan.gpus, state) : [];
  return new NotNowError(`${error.message}${inBrief(gpus)}${drainWords(state)}`, gpus);
}

function inBrief(gpus: Reasons): string {
  const counts = new Map<string, number>();
  for (const { reason } of gpus) if (reason !== null) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return counts.size === 0 ? "" : `: ${[...counts].map(([reason, count]) => `${count} ${reason}`).join(", ")}`;
}
