/** Tables that fit the terminal: what can be cut is cut, then whole columns go, the least important first. */
import { visible } from "../platform/printable.ts";
import type { Color, Terminal } from "./terminal.ts";

export interface Column<Row> {
  readonly head: string;
  readonly cell: (row: Row) => string | null;
  readonly color?: (row: Row) => Color | null;
  readonly align?: "right";
  /** May be cut to so many characters; without it, it is never cut. */
  readonly shrinksTo?: number;
  /** The order in which columns go when there is no room, 1 first; without it, it stays. */
  readonly goes?: number;
}

const GAP = "  ";
const NOTHING = "-";

export function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[], terminal: Terminal): string[] {
  const laid = columns.map((column) => {
    const cells = rows.map((row) => visible(column.cell(row) ?? NOTHING));
    return { column, cells, width: Math.max(column.head.length, ...cells.map(lengthOf)) };
  });
  const kept = fitted(laid, terminal.width);
  const lineOf = (texts: readonly string[], paint: (text: string, place: number) => string) =>
    texts
      .map((text, place) => {
        const { column, width } = kept[place] as (typeof kept)[number];
        const padded = pad(cut(text, width), width, column.align, place === kept.length - 1);
        return paint(padded, place);
      })
      .join(GAP);
  const heads = lineOf(
    kept.map(({ column }) => column.head),
    (text) => terminal.paint(text, "dim"),
  );
  const body = rows.map((row, at) =>
    lineOf(
      kept.map(({ cells }) => cells[at] as string),
      (text, place) => terminal.paint(text, kept[place]?.column.color?.(row) ?? null),
    ),
  );
  return [heads, ...body];
}

interface Laid<Row> {
  readonly column: Column<Row>;
  readonly cells: readonly string[];
  readonly width: number;
}

function fitted<Row>(laid: readonly Laid<Row>[], width: number): readonly Laid<Row>[] {
  let kept = laid;
  for (;;) {
    const over = kept.reduce((sum, one) => sum + one.width, (kept.length - 1) * GAP.length) - width;
    if (over <= 0) return kept;
    // The widest first, so that what is cut loses as little as it can.
    const spare = ({ width: has, column }: Laid<Row>) => has - Math.max(column.shrinksTo ?? has, column.head.length);
    const widest = kept.filter((one) => spare(one) > 0).sort((a, b) => b.width - a.width)[0];
    if (widest !== undefined) {
      const next = kept.filter((one) => one !== widest && spare(one) > 0).sort((a, b) => b.width - a.width)[0];
      const step = Math.max(1, Math.min(over, spare(widest), widest.width - (next?.width ?? 0)));
      kept = kept.map((one) => (one === widest ? { ...one, width: one.width - step } : one));
      continue;
    }
    const first = kept
      .filter(({ column }) => column.goes !== undefined)
      .sort((a, b) => (a.column.goes as number) - (b.column.goes as number))[0];
    if (first === undefined) return squeezed(kept, over);
    // With its room back, the others are laid out anew.
    const columns = kept.filter((one) => one !== first).map(({ column }) => column);
    kept = laid.filter(({ column }) => columns.includes(column));
  }
}

/** When all else has failed, the widest is cut whatever it is. */
function squeezed<Row>(laid: readonly Laid<Row>[], over: number): readonly Laid<Row>[] {
  const widest = laid.toSorted((a, b) => b.width - a.width)[0];
  return laid.map((one) => (one === widest ? { ...one, width: Math.max(1, one.width - over) } : one));
}

/** Characters, not UTF-16 units. */
function lengthOf(text: string): number {
  return [...text].length;
}

export function cut(text: string, width: number): string {
  return lengthOf(text) <= width ? text : `${[...text].slice(0, Math.max(0, width - 1)).join("")}…`;
}

function pad(text: string, width: number, align: "right" | undefined, isLast: boolean): string {
  const missing = " ".repeat(Math.max(0, width - lengthOf(text)));
  if (align === "right") return missing + text;
  return isLast ? text : text + missing;
}
