/**
 * Puts the nodes of a graph without circles into rows, each above all that it leads to (Sugiyama's method: rows by the
 * longest way down; an edge that skips rows gets a point in each; then every row is sorted a few times by where its
 * neighbours stand).
 */

export interface Edge {
  readonly from: string;
  readonly to: string;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Layout {
  readonly nodes: ReadonlyMap<string, Point>;
  /** Each from the node above to the one below, through a point in every row between. */
  readonly lines: readonly (readonly Point[])[];
  readonly width: number;
  readonly height: number;
}

const SWEEPS = 12;
/** What an edge takes of a row that it passes. */
const LANE = 26;

/** Leaves out what follows from the rest: with `a > b > c` in it, `a > c` is not shown. */
export function reduced(edges: readonly Edge[]): Edge[] {
  const next = Map.groupBy(edges, ({ from }) => from);
  const reaches = (from: string, to: string): boolean =>
    (next.get(from) ?? []).some((edge) => edge.to === to || reaches(edge.to, to));
  return edges.filter(({ from, to }) => !(next.get(from) ?? []).some((other) => reaches(other.to, to)));
}

function rowsOf(nodes: readonly string[], edges: readonly Edge[]): ReadonlyMap<string, number> {
  const next = Map.groupBy(edges, ({ from }) => from);
  const rows = new Map<string, number>();
  const rowOf = (node: string): number => {
    const known = rows.get(node);
    if (known !== undefined) return known;
    const row = Math.max(-1, ...(next.get(node) ?? []).map(({ to }) => rowOf(to))) + 1;
    rows.set(node, row);
    return row;
  };
  for (const node of nodes) rowOf(node);
  return rows;
}

/** @param box what each node takes of its row, and the height from one row to the next. */
export function layOut(
  nodes: readonly string[],
  edges: readonly Edge[],
  box: { readonly width: number; readonly rowHeight: number },
): Layout {
  const rowOf = rowsOf(nodes, edges);
  const rows: string[][] = Array.from({ length: Math.max(...rowOf.values()) + 1 }, () => []);
  for (const node of [...nodes].sort()) (rows[rowOf.get(node) as number] as string[]).push(node);
  const chains = edges.map(({ from, to }) => {
    const chain = [from];
    for (let row = (rowOf.get(from) as number) - 1; row > (rowOf.get(to) as number); row--) {
      const point = `${from} > ${to} > ${row}`;
      (rows[row] as string[]).push(point);
      chain.push(point);
    }
    return [...chain, to];
  });
  const neighbours = new Map<string, string[]>();
  for (const chain of chains) {
    chain.slice(1).forEach((node, i) => {
      const above = chain[i] as string;
      neighbours.set(above, [...(neighbours.get(above) ?? []), node]);
      neighbours.set(node, [...(neighbours.get(node) ?? []), above]);
    });
  }
  const widthOf = (name: string) => (rowOf.has(name) ? box.width : LANE);
  const width = Math.max(...rows.map((row) => row.reduce((sum, name) => sum + widthOf(name), 0)));
  const x = new Map<string, number>();
  const place = (row: readonly string[]) => {
    const gap = (width - row.reduce((sum, name) => sum + widthOf(name), 0)) / row.length;
    let at = gap / 2;
    for (const name of row) {
      x.set(name, at + widthOf(name) / 2);
      at += widthOf(name) + gap;
    }
  };
  rows.forEach(place);
  const middle = (name: string) => {
    const near = neighbours.get(name) ?? [];
    return near.length === 0
      ? (x.get(name) as number)
      : near.reduce((sum, n) => sum + (x.get(n) as number), 0) / near.length;
  };
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const row of sweep % 2 === 0 ? rows : rows.toReversed()) {
      const wanted = new Map(row.map((name) => [name, middle(name)]));
      row.sort((a, b) => (wanted.get(a) as number) - (wanted.get(b) as number) || (a < b ? -1 : 1));
      place(row);
    }
  }
  const yOf = (row: number) => (rows.length - 1 - row + 0.5) * box.rowHeight;
  const at = new Map(
    rows.flatMap((row, i) => row.map((name) => [name, { x: x.get(name) as number, y: yOf(i) }] as const)),
  );
  return {
    nodes: new Map(nodes.map((node) => [node, at.get(node) as Point])),
    lines: chains.map((chain) => chain.map((name) => at.get(name) as Point)),
    width,
    height: rows.length * box.rowHeight,
  };
}
