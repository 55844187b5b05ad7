/** `GET /gpu/usage`: what was held and used over a period, as JSON or CSV. Every role may see it: names are no secret. */

import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { Amount, Usage, UsageRow } from "../../scheduler/usage.ts";
import type { UsageAnswer } from "../../wire/usage/answers.ts";
import { usageQuerySchema } from "../../wire/usage/asks.ts";
import { hoursOf, timestamp } from "../../wire/values.ts";
import { type Answer, json, NOT_STORED } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";
import { invalid } from "../exchange/problems.ts";

/** Counted back from the end of the period, when its begin is not given. */
const DEFAULT_PERIOD_MS = 24 * 3_600_000;
/** RFC 4180, with the optional header line. */
const CSV_TYPE = "text/csv; charset=utf-8; header=present";

export function usage(scheduler: Scheduler): Operation {
  const check = checker(usageQuerySchema);
  return {
    role: "read",
    body: "ignored",
    takesQuery: true,
    async answer({ url, accept }) {
      const given = check(queryOf(url));
      const to = given.to === undefined ? scheduler.now() : Date.parse(given.to);
      const from = given.from === undefined ? to - DEFAULT_PERIOD_MS : Date.parse(given.from);
      if (from >= to) throw invalid([{ path: "from", message: "the period must begin before it ends" }]);
      const found = await scheduler.usage({ from, to });
      const format = given.format ?? (prefersCsv(accept) ? "csv" : "json");
      return format === "csv" ? csv(found) : json(200, usageView(found));
    },
  };
}

function usageView({ total, services, principals, gpus, ...usage }: Usage): UsageAnswer {
  return {
    from: timestamp(usage.from),
    to: timestamp(usage.to),
    now: timestamp(usage.now),
    complete_from: usage.completeFrom === null ? null : timestamp(usage.completeFrom),
    total: amountView(total),
    services: services.map(rowView),
    principals: principals.map(rowView),
    gpus: gpus.map(({ name, ...amount }) => ({ uuid: name, ...amountView(amount) })),
  };
}

function rowView({ name, ...amount }: UsageRow) {
  return { name, ...amountView(amount) };
}

function amountView({ leases, reservedMs, usedMs, wastedMs }: Amount) {
  return {
    leases,
    reserved_gpu_seconds: reservedMs / 1_000,
    used_gpu_seconds: usedMs / 1_000,
    reserved_gpu_hours: hoursOf(reservedMs),
    used_gpu_hours: hoursOf(usedMs),
    wasted_gpu_hours: hoursOf(wastedMs),
  };
}

/** One row per kind and name. The period stands in every row, so that a saved file tells what it is. */
function csv(usage: Usage): Answer {
  const { from, to, now, complete_from: completeFrom, total, services, principals, gpus } = usageView(usage);
  const rows = [
    { kind: "total", name: "", ...total },
    ...services.map((row) => ({ kind: "service", ...row })),
    ...principals.map((row) => ({ kind: "principal", ...row })),
    ...gpus.map(({ uuid, ...amount }) => ({ kind: "gpu", name: uuid, ...amount })),
  ].map((row) => ({ ...row, from, to, now, complete_from: completeFrom ?? "" }));
  const lines = [Object.keys(rows[0] ?? {}), ...rows.map((row) => Object.values(row))];
  const body = lines.map((fields) => `${fields.map(csvField).join(",")}\r\n`).join("");
  return { status: 200, type: CSV_TYPE, body, headers: NOT_STORED };
}

/**
 * A field as RFC 4180 has it. Spreadsheets take text that begins like a formula for one, so a quote mark is put before
 * such a name, which they do not show (OWASP, "CSV Injection").
 */
function csvField(value: string | number): string {
  const text =
    typeof value === "string" && /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Whether CSV is named, and JSON not as much (RFC 9110, section 12.5.1). Who takes anything gets JSON. */
function prefersCsv(accept: string | undefined): boolean {
  let csv = 0;
  let json = 0;
  for (const range of (accept ?? "").toLowerCase().split(",")) {
    const [type, ...parameters] = range.split(";").map((part) => part.trim());
    const quality = parameters.find((parameter) => parameter.startsWith("q="))?.slice("q=".length) ?? "1";
    const weight = Number(quality) >= 0 ? Number(quality) : 0;
    if (type === "text/csv") csv = Math.max(csv, weight);
    else if (type === "application/json") json = Math.max(json, weight);
  }
  return csv > json;
}
