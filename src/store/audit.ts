/** The audit's rows, and what they say. */
import { type AuditEntry, type AuditPage, type AuditQuery, DONE, type KeptAuditEntry } from "../ports/audit.ts";
import type { Reads, Write } from "./statements.ts";

/** What one page looks at, so that no question of an admin holds up the others. */
const ROWS_PER_PAGE = 20_000;

export function auditWrite(entry: AuditEntry): Write {
  const { at, principal, keyId, address, action, object, result, reason, requestId, count } = entry;
  return ["audit", at, principal, keyId, address, action, object, result, reason, requestId, count];
}

export function readAudit(reads: Reads, query: AuditQuery): AuditPage {
  const { before, principal, action, object, from, to, limit } = query;
  const { oldest, newest } = reads.auditBounds.get() as { oldest: number | null; newest: number | null };
  if (oldest === null || newest === null) return { entries: [], next: null };
  const end = Math.min(before ?? newest + 1, newest + 1);
  const begin = Math.max(oldest, end - ROWS_PER_PAGE);
  const isRefused = query.result === "refused" ? 1 : 0;
  const result = isRefused === 1 ? null : query.result;
  const rows = reads.audit.all(begin, end, principal, action, object, result, isRefused, DONE, from, to, limit);
  const entries = rows.map(entryOf);
  const last = entries.length === limit ? entries.at(-1)?.seq : begin;
  return { entries, next: last === undefined || last <= oldest ? null : last };
}

function entryOf(row: Record<string, unknown>): KeptAuditEntry {
  return {
    seq: row.seq as number,
    at: row.at as number,
    principal: row.principal as string | null,
    keyId: row.key_id as string | null,
    address: row.address as string | null,
    action: row.action as string,
    object: row.object as string | null,
    result: row.result as string,
    reason: row.reason as string | null,
    requestId: row.request_id as string | null,
    count: row.count as number,
  };
}
