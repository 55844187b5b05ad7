/** `GET /gpu/history`: what each GPU was over the last days, and whose. */
import { printable } from "../../platform/printable.ts";
import type { GpuHistory } from "../../scheduler/gpu-history.ts";
import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { HistoryAnswer } from "../../wire/history/answers.ts";
import { historyQuerySchema } from "../../wire/history/asks.ts";
import { timestamp } from "../../wire/values.ts";
import { json } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import { invalid } from "../exchange/problems.ts";

const DEFAULT_PERIOD_MS = 24 * 3_600_000;

export interface HistoryParts {
  readonly scheduler: Scheduler;
  readonly history: GpuHistory;
}

export function history({ scheduler, history: kept }: HistoryParts): Operation {
  const check = checker(historyQuerySchema);
  return {
    role: "read",
    body: "ignored",
    takesQuery: true,
    answer({ url }) {
      const given = check(queryOf(url));
      const now = scheduler.now();
      const to = given.to === undefined ? now : Math.min(now, Date.parse(given.to));
      const from = given.from === undefined ? to - DEFAULT_PERIOD_MS : Date.parse(given.from);
      if (from >= to) throw invalid([{ path: "from", message: "the period must begin before it ends" }]);
      return json(200, historyView(kept, from, to));
    },
  };
}

function historyView(kept: GpuHistory, from: number, to: number): HistoryAnswer {
  const gpus = [...kept.spans(from, to)].map(([uuid, spans]) => ({
    uuid: printable(uuid),
    spans: spans.map((span) => ({
      from: timestamp(span.from),
      to: timestamp(span.to),
      state: span.state as HistoryAnswer["gpus"][number]["spans"][number]["state"],
      services: [...span.services],
      idle: span.isIdle,
    })),
  }));
  return { from: timestamp(from), to: timestamp(to), gpus };
}
