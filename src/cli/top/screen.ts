/** What `gpuo top` shows: a frame made of what the daemon says, what is chosen, and the size of the terminal. Pure. */
import type { Allocation, Gpu, List } from "../../client/types.ts";
import { visible } from "../../platform/printable.ts";
import { type Column, cut, table } from "../table.ts";
import type { Terminal } from "../terminal.ts";
import { gpuColumns, gpuRows, leaseColumns, queueColumns, summary } from "../verbs/look.ts";

export const SORTS = ["as it is", "service", "longest first"] as const;

export interface View {
  readonly list: List;
  /** Part of what a row shows; empty: all. */
  readonly filter: string;
  readonly sort: (typeof SORTS)[number];
  /** Which of the rows, counted over all three tables; the last one when there are fewer. */
  readonly chosen: number;
  /** The bottom line: a question, what came of a deed, or that the daemon does not answer. */
  readonly note: string | null;
  readonly rows: number;
}

export type Target =
  | { readonly kind: "gpu"; readonly gpu: Gpu }
  | { readonly kind: "lease"; readonly lease: Allocation }
  | { readonly kind: "queued"; readonly id: string; readonly service: string };

export interface Frame {
  readonly lines: readonly string[];
  readonly target: Target | null;
  /** How many rows can be chosen. */
  readonly count: number;
}

/** Before the lines of a table: one that is empty or says what is cut, and the columns' names. */
const AROUND = 2;
const FEW_KEYS = "q ↑↓  s sort  / filter  c r d change";
const KEYS = "q quit  ↑↓ choose  s sort  / filter  c cancel  r release  d cordon or uncordon";
const REVERSED = "\x1b[7m";
const PLAIN = "\x1b[0m";

/** @param marks whether the chosen row is marked. */
export function frame(view: View, terminal: Terminal, now: number, marks = true): Frame {
  const { list, filter, sort, rows } = view;
  const tables = [
    part("GPUs", gpuRows(list), gpuColumns(now), ({ gpu }) => ({ kind: "gpu", gpu }) as const),
    part(
      "leases",
      ordered(list.allocations, sort, ({ allocated_at }) => allocated_at),
      leaseColumns(now),
      (lease) => ({ kind: "lease", lease }) as const,
    ),
    part(
      "waiting",
      ordered(list.queue, sort, ({ submitted_at }) => submitted_at),
      queueColumns(now),
      ({ id, service_name: service }) => ({ kind: "queued", id, service }) as const,
    ),
  ].map((one) => one(filter, terminal));
  const count = tables.reduce((sum, { targets }) => sum + targets.length, 0);
  const chosen = Math.max(0, Math.min(view.chosen, count - 1));
  const target = tables.flatMap(({ targets }) => targets)[chosen] ?? null;
  const top = [...summary(list, now), `sorted ${sort}${filter === "" ? "" : visible(`, with "${filter}"`)}`];
  const bottom = visible(view.note ?? (KEYS.length <= terminal.width ? KEYS : FEW_KEYS));
  const room = Math.max(0, rows - top.length - 1);
  const shares = sharesOf(
    tables.map(({ lines }) => lines.length),
    room - tables.length * AROUND,
  );
  let at = 0;
  const body = tables.flatMap(({ title, head, lines }, place) => {
    const first = at;
    at += lines.length;
    const share = shares[place] ?? lines.length;
    const begin = Math.max(0, Math.min(chosen - first - share + 1, lines.length - share));
    const shownLines = lines.slice(begin, begin + share);
    const cutShort = shownLines.length < lines.length;
    return [
      { line: cutShort ? `${title} ${begin + 1} to ${begin + share} of ${lines.length}` : "", isChosen: false },
      { line: lines.length === 0 ? `no ${title}` : head, isChosen: false },
      ...shownLines.map((line, n) => ({ line, isChosen: first + begin + n === chosen && marks })),
    ];
  });
  const from = firstShown(body, room);
  const rest = body.slice(from, from + room).map(({ line, isChosen }) => (isChosen ? marked(line) : line));
  const shown = [...top.map((line) => cut(line, terminal.width)), ...rest].slice(0, rows - 1);
  return { lines: [...shown, cut(bottom, terminal.width)], target, count };
}

/** How many lines of each table are shown: all, or as many as of the others and what those do not need. */
function sharesOf(needs: readonly number[], room: number): readonly number[] {
  // On a screen that is too small for all, what is chosen is shown, and what is around it.
  if (room < needs.length || needs.reduce((sum, need) => sum + need, 0) <= room) return needs;
  const shares = needs.map(() => 0);
  for (let left = room; left > 0; left--) {
    const wanting = shares.flatMap((share, place) => (share < (needs[place] as number) ? [place] : []));
    const least = wanting.reduce((a, b) => ((shares[b] as number) < (shares[a] as number) ? b : a));
    shares[least] = (shares[least] as number) + 1;
  }
  return shares;
}

function part<Row>(
  title: string,
  all: readonly Row[],
  columns: readonly Column<Row>[],
  targetOf: (row: Row) => Target,
) {
  return (filter: string, terminal: Terminal) => {
    const rows = all.filter((row) => matches(row, columns, filter));
    const [head = "", ...lines] = table(rows, columns, terminal);
    return { title, head, lines, targets: rows.map(targetOf) };
  };
}

function matches<Row>(row: Row, columns: readonly Column<Row>[], filter: string): boolean {
  const wanted = filter.toLowerCase();
  return filter === "" || columns.some(({ cell }) => (cell(row) ?? "").toLowerCase().includes(wanted));
}

function ordered<Row extends { readonly service_name: string; readonly id: string }>(
  rows: readonly Row[],
  sort: View["sort"],
  since: (row: Row) => string | undefined,
): readonly Row[] {
  const by = (text: (row: Row) => string) =>
    rows.toSorted((a, b) => (text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : a.id < b.id ? -1 : 1));
  if (sort === "service") return by(({ service_name }) => service_name);
  return sort === "longest first" ? by((row) => since(row) ?? "") : rows;
}

/** The chosen line, whatever colours it has. */
function marked(line: string): string {
  return `${REVERSED}${line.replaceAll(PLAIN, `${PLAIN}${REVERSED}`)}${PLAIN}`;
}

/** So that the chosen line is in sight, with those before it as far as there is room. */
function firstShown(body: readonly { readonly isChosen: boolean }[], room: number): number {
  const at = body.findIndex(({ isChosen }) => isChosen);
  return Math.max(0, Math.min(at - room + 1, body.length - room));
}
