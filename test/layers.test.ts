/**
 * The walls of the house: which room may import which, read from the imports themselves.
 *
 * An allow-list: a room or a floor of the core that the table does not name fails, so that nothing is let through by
 * being new. Types count like values, both for walls and for circles.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { FILES, IMPORTS, type Import, importsOf, roomOf } from "./house/imports.ts";
import { picture, withRooms } from "./house/picture.ts";
import { ROOMS, TYPES_ONLY } from "./house/walls.ts";

function breaches(imports: readonly Import[]): string[] {
  const found: string[] = [];
  for (const { from, to, typesOnly } of imports) {
    const [room, other] = [roomOf(from), roomOf(to)];
    if (room === other) continue;
    if (!(room in ROOMS)) found.push(`${from}: the table does not know the room ${room}`);
    else if (!ROOMS[room]?.imports.includes(other))
      found.push(`${from} imports ${to}: ${room} may not import ${other}`);
    else if (!typesOnly && TYPES_ONLY.has(`${room} > ${other}`)) {
      found.push(`${from} imports ${to}: ${room} may import ${other} for its types only`);
    }
  }
  return found;
}

/** Files that import each other in a circle: the strongly connected components of more than one file (Tarjan, 1972). */
function circles(imports: readonly Import[]): string[][] {
  const next = Map.groupBy(imports, ({ from }) => from);
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (file: string): void => {
    order.set(file, order.size);
    low.set(file, order.get(file) as number);
    stack.push(file);
    for (const { to } of next.get(file) ?? []) {
      if (!order.has(to)) visit(to);
      if (stack.includes(to)) low.set(file, Math.min(low.get(file) as number, low.get(to) as number));
    }
    if (low.get(file) !== order.get(file)) return;
    const component = stack.splice(stack.indexOf(file));
    if (component.length > 1) found.push(component.sort());
  };
  for (const file of next.keys()) if (!order.has(file)) visit(file);
  return found;
}

describe("the walls of the house", () => {
  test("no file imports what the table does not allow to its room, and every room is in the table", () => {
    expect(breaches(IMPORTS)).toEqual([]);
    expect(FILES.map(roomOf).filter((room) => !(room in ROOMS))).toEqual([]);
  });

  test("no files import each other in a circle, types included", () => {
    expect(circles(IMPORTS)).toEqual([]);
  });
});

test("the picture and the table of rooms are of today's imports (`npm run house` makes them anew)", () => {
  const docs = (name: string) => readFileSync(new URL(`../docs/${name}`, import.meta.url), "utf8");
  expect(docs("architecture.svg")).toBe(picture());
  expect(docs("architecture.md")).toBe(withRooms(docs("architecture.md")));
});

describe("the judge of the walls", () => {
  const importing = (from: string, text: string) => breaches(importsOf(from, text));

  test("sees value, type, lazy, bare and re-exporting imports", () => {
    const lines = [
      'import { a } from "../store/a.ts";',
      'import type { b } from "../store/b.ts";',
      'import {\n  c,\n} from "../store/c.ts";',
      'export { d } from "../store/d.ts";',
      'const e = await import("../store/e.ts");',
      'import "../store/f.ts";',
    ];
    expect(importing("monitor/x.ts", lines.join("\n"))).toHaveLength(lines.length);
  });

  test("fails closed for a room that nobody has named", () => {
    expect(importing("garage/x.ts", 'import { a } from "../core/base/time.ts";')).toHaveLength(1);
    expect(importing("core/garage/x.ts", 'import { a } from "../base/time.ts";')).toHaveLength(1);
    expect(importing("monitor/x.ts", 'import { a } from "../garage/a.ts";')).toHaveLength(1);
  });

  test("lets a lower floor not look up, and a client take types of the wire only", () => {
    expect(importing("core/model/x.ts", 'import type { a } from "../host/state.ts";')).toHaveLength(1);
    expect(importing("core/host/x.ts", 'import type { a } from "../model/gpu.ts";')).toEqual([]);
    expect(importing("core/analyzer/x.ts", 'import { a } from "../readings/xid.ts";')).toHaveLength(1);
    expect(importing("client/x.ts", 'import { a } from "../wire/values.ts";')).toHaveLength(1);
    expect(importing("client/x.ts", 'import type { a } from "../wire/values.ts";')).toEqual([]);
  });

  test("finds a circle over three files", () => {
    const edge = (from: string, to: string) => ({ from, to, typesOnly: true });
    expect(circles([edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("c", "d")])).toEqual([["a", "b", "c"]]);
  });
});
