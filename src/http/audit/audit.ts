/** `GET /gpu/audit`: who changed or was refused what. For admins. */
import { printable } from "../../platform/printable.ts";
import type { AuditStore, KeptAuditEntry } from "../../ports/audit.ts";
import { DEFAULT_PAGE } from "../../wire/asking.ts";
import type { AuditEntryAnswer } from "../../wire/audit/answers.ts";
import { auditQuerySchema } from "../../wire/audit/asks.ts";
import { text, timestamp } from "../../wire/values.ts";
import { json, NOT_STORED } from "../exchange/answers.ts";
import { checker, queryOf } from "../exchange/checks.ts";
import type { Operation } from "../exchange/endpoint.ts";

const LINES_TYPE = "application/jsonl";

export function audit({ audit: kept }: { readonly audit: AuditStore }): Operation {
  const check = checker(auditQuerySchema);
  return {
    role: "admin",
    body: "ignored",
    takesQuery: true,
    answer({ url, accept }) {
      const given = check(queryOf(url));
      const { entries, next } = kept.audit({
        principal: given.principal ?? null,
        action: given.action ?? null,
        object: given.object ?? null,
        result: given.result ?? null,
        from: given.from === undefined ? null : Date.parse(given.from),
        to: given.to === undefined ? null : Date.parse(given.to),
        before: given.before === undefined ? null : Number(given.before),
        limit: given.limit === undefined ? DEFAULT_PAGE : Number(given.limit),
      });
      const format = given.format ?? (accept?.includes(LINES_TYPE) === true ? "jsonl" : "json");
      const page = entries.map(entryView);
      if (format === "json") return json(200, { entries: page, next: next === null ? null : String(next) });
      const body = page.map((entry) => `${JSON.stringify(entry)}\n`).join("");
      const more = next === null ? [] : ["Link", `<?${nextQuery(url, next)}>; rel="next"`];
      return { status: 200, type: LINES_TYPE, body, headers: [...NOT_STORED, ...more] };
    },
  };
}

/** The same question, of the page behind this one (RFC 8288). */
function nextQuery(url: string, next: number): string {
  const query = new URLSearchParams(url.split("?")[1]);
  query.set("before", String(next));
  return query.toString();
}

function entryView(entry: KeptAuditEntry): AuditEntryAnswer {
  return {
    id: entry.seq,
    at: timestamp(entry.at),
    principal: text(entry.principal),
    key_id: entry.keyId,
    address: entry.address,
    action: printable(entry.action),
    object: text(entry.object),
    result: entry.result,
    reason: text(entry.reason),
    request_id: entry.requestId,
    count: entry.count,
  };
}
