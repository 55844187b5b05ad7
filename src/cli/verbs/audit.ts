/** Who changed or was refused what. */
import type { AuditQuery } from "../../client/client.ts";
import type { Audit } from "../../client/types.ts";
import { wholeOf } from "../ask.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { type Column, table } from "../table.ts";
import { instantOf } from "./reports.ts";

interface AuditOptions extends CommonOptions {
  readonly since?: string;
  readonly principal?: string;
  readonly object?: string;
  readonly refused?: boolean;
  readonly limit: string;
  readonly all?: boolean;
}

type Entry = Audit["entries"][number];

const PAGE = 1_000;

const COLUMNS: readonly Column<Entry>[] = [
  { head: "AT", cell: ({ at }) => at.slice(0, 19).replace("T", " ") },
  { head: "WHO", cell: ({ principal }) => principal, shrinksTo: 8 },
  { head: "KEY", cell: ({ key_id: key }) => key, goes: 2 },
  { head: "FROM", cell: ({ address }) => address, shrinksTo: 9, goes: 3 },
  { head: "ACTION", cell: ({ action }) => action, shrinksTo: 20 },
  { head: "OBJECT", cell: ({ object }) => object, shrinksTo: 12 },
  {
    head: "RESULT",
    cell: ({ result, count }) => (count === 1 ? result : `${count} ${result}`),
    color: ({ result }) => (result === "done" ? null : "yellow"),
  },
  { head: "REASON", cell: ({ reason }) => reason ?? "", shrinksTo: 8, goes: 1 },
];

/** JSON is written page by page, so that an export of everything needs no memory for it. */
export async function audit(options: AuditOptions): Promise<void> {
  const most = options.all === true ? Number.POSITIVE_INFINITY : wholeOf("--limit", options.limit, 1);
  const { client, terminal } = await contextOf(options);
  const query: AuditQuery = {
    ...(options.principal === undefined ? {} : { principal: options.principal }),
    ...(options.object === undefined ? {} : { object: options.object }),
    ...(options.refused === true ? { result: "refused" } : {}),
    ...(options.since === undefined ? {} : { from: instantOf("--since", options.since, Date.now()) }),
  };
  const rows: Entry[] = [];
  let left = most;
  let before: string | null = null;
  do {
    const page: Audit = await client.audit({
      ...query,
      limit: Math.min(PAGE, left),
      ...(before === null ? {} : { before }),
    });
    for (const entry of page.entries) {
      if (terminal.json) terminal.data(entry);
      else rows.push(entry);
    }
    left -= page.entries.length;
    before = page.next;
  } while (before !== null && left > 0);
  if (terminal.json) return;
  if (rows.length === 0) terminal.line("nothing is written down");
  else for (const line of table(rows, COLUMNS, terminal)) terminal.line(line);
}
