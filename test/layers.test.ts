/**
 * The walls of the house: which room may import which, read from the imports themselves.
 *
 * An allow-list: a room or a floor of the core that the table does not name fails, so that nothing is let through by
 * being new. Types count like values, both for walls and for circles.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const SRC = fileURLToPath(new URL("../src", import.meta.url));

/** The floors of the core, lowest first: each may import those before it. `readings` and `analyzer` do not know each other. */
const FLOORS = [
  "core/base",
  "core/model",
  "core/readings",
  "core/analyzer",
  "core/host",
  "core/allocator",
  "core/queue",
  "core/decisions",
  "core/explain",
  "core/replay",
] as const;

const CORE = FLOORS as readonly string[];
const below = (floor: (typeof FLOORS)[number]) =>
  CORE.slice(0, CORE.indexOf(floor)).filter((room) => floor !== "core/analyzer" || room !== "core/readings");
const LEASING = [...CORE, "ports", "platform"];

/** Room -> the rooms that it may import. A room may always import itself. */
const WALLS: Readonly<Record<string, readonly string[]>> = {
  platform: [],
  ...Object.fromEntries(FLOORS.map((floor) => [floor, below(floor)])),
  ports: CORE,
  wire: LEASING,
  "wire/work": [...LEASING, "wire", "work"],
  config: CORE,
  monitor: LEASING,
  store: LEASING,
  webhooks: LEASING,
  metrics: LEASING,
  advisors: LEASING,
  scheduler: [...LEASING, "wire"],
  "http/exchange": ["core/model", "platform"],
  http: [...LEASING, "wire", "scheduler", "http/exchange"],
  daemon: [
    ...LEASING,
    "wire",
    "config",
    "monitor",
    "store",
    "webhooks",
    "metrics",
    "advisors",
    "scheduler",
    "http",
    "http/exchange",
    "work-service",
  ],
  work: ["core/base", "core/model"],
  client: ["platform", "wire"],
  "work-service": ["work", "client", "wire", "wire/work", "config", "platform", "http/exchange"],
  broker: ["work", "platform"],
  worker: ["work", "client", "broker", "config", "platform"],
  controller: ["work", "client", "config", "platform", "core/base", "core/model", "core/analyzer", "http/exchange"],
  web: ["client"],
  mcp: ["client", "platform"],
  cli: ["client", "config", "platform", "core/base", "daemon", "worker", "controller", "mcp"],
};

/** Rooms whose imports of another room must be for its types only. */
const TYPES_ONLY: ReadonlySet<string> = new Set(["client > wire"]);

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typesOnly: boolean;
}

const IMPORT =
  /^(?:import|export)\s+(type\s+)?[^;]*?from\s+"(\.[^"]+)";|\bimport\("(\.[^"]+)"\)|^import\s+"(\.[^"]+)";/gm;

function importsOf(file: string, text: string): Import[] {
  return [...text.matchAll(IMPORT)].map(([, type, from, lazy, bare]) => ({
    from: file,
    to: relative(SRC, resolve(SRC, dirname(file), (from ?? lazy ?? bare) as string)),
    typesOnly: type !== undefined,
  }));
}

/** The most particular room of the table that a file lies in: `core/host`, `http/exchange`, `http`. */
function roomOf(file: string): string {
  const folders = dirname(file).split("/");
  for (let depth = folders.length; depth > 0; depth--) {
    const room = folders.slice(0, depth).join("/");
    if (room in WALLS) return room;
  }
  return folders.slice(0, folders[0] === "core" ? 2 : 1).join("/");
}

const FILES = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => /\.tsx?$/.test(file));
const IMPORTS = FILES.flatMap((file) => importsOf(file, readFileSync(join(SRC, file), "utf8")));

function breaches(imports: readonly Import[]): string[] {
  const found: string[] = [];
  for (const { from, to, typesOnly } of imports) {
    const [room, other] = [roomOf(from), roomOf(to)];
    if (room === other) continue;
    if (!(room in WALLS)) found.push(`${from}: the table does not know the room ${room}`);
    else if (!WALLS[room]?.includes(other)) found.push(`${from} imports ${to}: ${room} may not import ${other}`);
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
    expect(FILES.map(roomOf).filter((room) => !(room in WALLS))).toEqual([]);
  });

  test("no files import each other in a circle, types included", () => {
    expect(circles(IMPORTS)).toEqual([]);
  });
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
