/** `GET /gpu/windows`: which GPUs are kept, for whom and when. Every role may see it: names are no secret. */
import type { EpochMs } from "../../core/base/time.ts";
import { indexNow } from "../../core/host/indices.ts";
import type { HostState } from "../../core/host/state.ts";
import { namedBy } from "../../core/host/window-plan.ts";
import { printable } from "../../platform/printable.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import { timestamp } from "../../wire/values.ts";
import type { WindowsAnswer } from "../../wire/windows/answers.ts";
import { json } from "../exchange/answers.ts";
import type { Operation } from "../exchange/endpoint.ts";

/** How far ahead is shown. */
const SHOWN_MS = 7 * 24 * 3_600_000;

export function windows(scheduler: Scheduler): Operation {
  return {
    role: "read",
    body: "ignored",
    answer: () => json(200, windowsView(scheduler.state, scheduler.now())),
  };
}

function windowsView(state: HostState, now: EpochMs): WindowsAnswer {
  const { policy, gpus } = state;
  const indexOf = indexNow(state);
  const windows = policy.windows.map((window) => {
    const { name, schedule, timeZone, durationMs, members, spans } = window;
    const coming = spans.filter(({ from, to }) => to > now && from < now + SHOWN_MS);
    return {
      name,
      schedule,
      time_zone: timeZone,
      duration_seconds: durationMs / 1_000,
      gpus: typeof window.gpus === "number" ? window.gpus : null,
      gpu_uuids: typeof window.gpus === "number" ? null : [...namedBy(window, gpus.values(), indexOf)].map(printable),
      for: members.map(({ services, principals, workloadTypes }) => ({
        services: [...services],
        principals: principals.map(printable),
        workload_types: [...workloadTypes],
      })),
      open: coming.some(({ from }) => from <= now),
      occurrences: coming.map(({ from, to }) => ({ from: timestamp(from), to: timestamp(to) })),
    };
  });
  return { windows, now: timestamp(now) };
}
