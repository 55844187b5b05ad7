/** docs/architecture.svg and the table of rooms in docs/architecture.md, made of the imports and the walls. */
import { FILES, IMPORTS, roomOf } from "./imports.ts";
import { type Edge, type Layout, layOut, type Point, reduced } from "./layout.ts";
import { ROOMS } from "./walls.ts";

const BOX = { width: 132, height: 36 };
const SPACE = { width: 150, rowHeight: 82 };
const MARGIN = 24;
const TITLE = 34;

/** The rooms that have files today, in the order of the table. */
function roomsToday(): readonly string[] {
  const known = new Set(FILES.map(roomOf));
  return Object.keys(ROOMS).filter((room) => known.has(room));
}

function edgesBetween(nodes: readonly string[], nodeOf: (file: string) => string): readonly Edge[] {
  const seen = new Map<string, Edge>();
  for (const { from, to } of IMPORTS) {
    const edge = { from: nodeOf(from), to: nodeOf(to) };
    if (edge.from === edge.to || !nodes.includes(edge.from) || !nodes.includes(edge.to)) continue;
    seen.set(`${edge.from} > ${edge.to}`, edge);
  }
  return reduced([...seen.keys()].sort().map((key) => seen.get(key) as Edge));
}

/** The rooms with the core as one, and beside them the floors of the core. */
export function picture(): string {
  const rooms = roomsToday();
  const houseOf = (file: string) => (file.startsWith("core/") ? "core" : roomOf(file));
  const house = [...new Set(rooms.map((room) => (room.startsWith("core/") ? "core" : room)))];
  const floors = rooms.filter((room) => room.startsWith("core/"));
  const left = layOut(house, edgesBetween(house, houseOf), SPACE);
  const right = layOut(floors, edgesBetween(floors, roomOf), SPACE);
  const height = Math.max(left.height, right.height) + TITLE + 2 * MARGIN;
  const width = left.width + right.width + 4 * MARGIN;
  const beside = left.width + 3 * MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="14">`,
    "<title>The rooms of src, and the floors of its core: each imports what it has an arrow to, and what that leads to</title>",
    `<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">`,
    `<path d="M0 0L8 4L0 8z" fill="#8a94a6"/></marker></defs>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<rect x="${beside - MARGIN / 2}" y="${MARGIN / 2}" width="${right.width + MARGIN}" height="${height - MARGIN}" rx="10" fill="#f3f7fd"/>`,
    ...panel("The rooms of src", left, MARGIN, height, (name) => name === "core"),
    ...panel("The floors of core", right, beside, height, () => true),
    "</svg>",
    "",
  ].join("\n");
}

/** @param bottom where the lowest row ends: both panels stand on the same ground. */
function panel(
  title: string,
  layout: Layout,
  left: number,
  bottom: number,
  isCore: (name: string) => boolean,
): string[] {
  const top = bottom - MARGIN - layout.height;
  const moved = ({ x, y }: Point): Point => ({ x: Math.round(x + left), y: Math.round(y + top) });
  const lines = layout.lines.map((line) => `<path d="${pathOf(line.map(moved))}" ${LINE}/>`);
  const boxes = [...layout.nodes].map(([name, point]) => boxOf(name, moved(point), isCore(name)));
  return [`<text x="${left}" y="${MARGIN + 14}" font-weight="bold" fill="#1f2a3d">${title}</text>`, ...lines, ...boxes];
}

const LINE = 'fill="none" stroke="#8a94a6" stroke-width="1.4" marker-end="url(#end)"';

/** From the lower edge of one box to the upper edge of the other, upright where it passes a row. */
function pathOf(points: readonly Point[]): string {
  const half = BOX.height / 2;
  const first = points[0] as Point;
  let from = { x: first.x, y: first.y + half };
  let path = `M${from.x} ${from.y}`;
  points.slice(1).forEach((point, i) => {
    const isLast = i === points.length - 2;
    const to = { x: point.x, y: point.y - half };
    const bend = (to.y - from.y) / 2;
    path += `C${from.x} ${from.y + bend} ${to.x} ${to.y - bend} ${to.x} ${to.y}`;
    if (isLast) return;
    from = { x: to.x, y: point.y + half };
    path += `V${from.y}`;
  });
  return path;
}

function boxOf(name: string, { x, y }: Point, isCore: boolean): string {
  const [fill, stroke] = isCore ? ["#dce9fb", "#3b6fb6"] : ["#f6f6f3", "#6b6f76"];
  const { width, height } = BOX;
  const label = name.replace(/^core\//, "");
  return (
    `<rect x="${x - width / 2}" y="${y - height / 2}" width="${width}" height="${height}" rx="6" fill="${fill}" stroke="${stroke}"/>` +
    `<text x="${x}" y="${y + 5}" text-anchor="middle" fill="#1f2a3d">${label}</text>`
  );
}

const BEGIN = "<!-- rooms: written by npm run house -->";
const END = "<!-- rooms end -->";

/** `document` with the table of today's rooms between its two marks. */
export function withRooms(document: string): string {
  const rooms = roomsToday();
  const rows = rooms.map((room) => {
    const { does, imports } = ROOMS[room] as (typeof ROOMS)[string];
    return `| \`${room}/\` | ${does} | ${inWords(imports.filter((other) => rooms.includes(other)))} |`;
  });
  const table = ["| Room | What it is for | May import |", "|---|---|---|", ...rows].join("\n");
  const [before, after] = [document.split(BEGIN)[0], document.split(END)[1]];
  if (before === document || after === undefined) throw new Error("the document has no place for the table of rooms");
  return `${before}${BEGIN}\n${table}\n${END}${after}`;
}

function inWords(rooms: readonly string[]): string {
  const floors = Object.keys(ROOMS).filter((room) => room.startsWith("core/"));
  const all = floors.every((floor) => rooms.includes(floor));
  const named = all ? ["core", ...rooms.filter((room) => !floors.includes(room))] : rooms;
  return named.length === 0 ? "nothing" : named.join(", ");
}
