/** The comparison as a picture: SVG by hand, on a ground of its own, legible in light and dark. */

export interface Series {
  readonly name: string;
  /** One of {@link STYLES}. */
  readonly style: keyof typeof STYLES;
  /** By load; in the order of `loads`. */
  readonly values: readonly number[];
}

export interface Panel {
  readonly title: string;
  readonly series: readonly Series[];
}

export interface PanelRow {
  readonly label: string;
  readonly scale: "log" | "linear";
  readonly from: number;
  readonly to: number;
  readonly ticks: readonly (readonly [value: number, label: string])[];
  readonly panels: readonly Panel[];
}

/** Light and dark: contrast of 3 to 1 at least against either ground; told apart by dash and mark as well as by colour. */
const STYLES = {
  strict: { light: "#8a5a00", dark: "#e0a33e", dash: "2 3", mark: "frame" },
  greedy: { light: "#b3261e", dark: "#ff8a80", dash: "7 4", mark: "triangle" },
  ours: { light: "#0b57d0", dark: "#8ab4f8", dash: "", mark: "circle" },
  plain: { light: "#0b57d0", dark: "#8ab4f8", dash: "1 4", mark: "ring" },
  limit: { light: "#5f6368", dark: "#bdc1c6", dash: "10 3 2 3", mark: "diamond" },
} as const;

const WIDTH = 900;
const PANEL = { width: 245, height: 190, left: 62, top: 74, gapX: 30, gapY: 56 };
const LEGEND_Y = 26;

export function plot(title: string, loads: readonly number[], rows: readonly PanelRow[]): string {
  const parts: string[] = [];
  const names = new Map(rows[0]?.panels[0]?.series.map(({ name, style }) => [name, style]));
  parts.push(legend(names));
  rows.forEach((row, r) => {
    const top = PANEL.top + r * (PANEL.height + PANEL.gapY);
    row.panels.forEach((panel, c) => {
      parts.push(drawPanel(row, panel, loads, PANEL.left + c * (PANEL.width + PANEL.gapX), top, c === 0));
    });
  });
  const height = PANEL.top + rows.length * (PANEL.height + PANEL.gapY) - 6;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="title">
<title id="title">${escaped(title)}</title>
<style>${styles()}</style>
<rect class="ground" width="${WIDTH}" height="${height}" rx="8"/>
${parts.join("\n")}
</svg>
`;
}

function drawPanel(row: PanelRow, panel: Panel, loads: readonly number[], left: number, top: number, first: boolean) {
  const { width, height } = PANEL;
  const inset = 26;
  const x = (i: number) => left + inset + (i * (width - 2 * inset)) / Math.max(1, loads.length - 1);
  const y = (value: number) => top + height - height * position(row, value);
  const parts = [
    `<rect class="frame" x="${left}" y="${top}" width="${width}" height="${height}"/>`,
    text(left + width / 2, top - 8, panel.title, "panel middle"),
  ];
  for (const [value, label] of row.ticks) {
    const at = n(y(value));
    parts.push(`<line class="grid" x1="${left}" x2="${left + width}" y1="${at}" y2="${at}"/>`);
    if (first) parts.push(text(left - 8, y(value) + 4, label, "end"));
  }
  loads.forEach((load, i) => {
    parts.push(text(x(i), top + height + 17, `load ${load.toFixed(1)}`, "middle"));
  });
  for (const { style, values } of panel.series) {
    const points = values.map((value, i) => [x(i), y(value)] as const);
    parts.push(`<polyline class="line ${style}" points="${points.map(([px, py]) => `${n(px)},${n(py)}`).join(" ")}"/>`);
    for (const [px, py] of points) parts.push(mark(style, px, py));
  }
  if (first) {
    parts.push(
      `<text class="axis middle" transform="translate(${left - 46} ${top + height / 2}) rotate(-90)">${escaped(row.label)}</text>`,
    );
  }
  return parts.join("\n");
}

/** From 0 at the bottom to 1; what lies outside is drawn at the edge. */
function position({ scale, from, to }: PanelRow, value: number): number {
  const part =
    scale === "log"
      ? (Math.log(Math.max(value, from)) - Math.log(from)) / (Math.log(to) - Math.log(from))
      : (value - from) / (to - from);
  return Math.min(1, Math.max(0, part));
}

function legend(names: ReadonlyMap<string, Series["style"]>): string {
  const parts: string[] = [];
  let x = PANEL.left;
  for (const [name, style] of names) {
    parts.push(`<line class="line ${style}" x1="${x}" x2="${x + 34}" y1="${LEGEND_Y}" y2="${LEGEND_Y}"/>`);
    parts.push(mark(style, x + 17, LEGEND_Y), text(x + 42, LEGEND_Y + 4, name, ""));
    x += 42 + name.length * 6.3 + 22;
  }
  return parts.join("\n");
}

function mark(style: Series["style"], x: number, y: number): string {
  const size = 4.5;
  switch (STYLES[style].mark) {
    case "circle":
      return `<circle class="mark ${style}" cx="${n(x)}" cy="${n(y)}" r="${size}"/>`;
    case "ring":
      return `<circle class="ring ${style}" cx="${n(x)}" cy="${n(y)}" r="${size}"/>`;
    case "frame":
      // Large and hollow: what lies on the same point stays visible.
      return `<rect class="ring ${style}" x="${n(x - 7)}" y="${n(y - 7)}" width="14" height="14"/>`;
    case "triangle":
      return polygon(style, [x, y - size - 1], [x + size + 1, y + size], [x - size - 1, y + size]);
    case "diamond":
      return polygon(style, [x, y - size - 1], [x + size + 1, y], [x, y + size + 1], [x - size - 1, y]);
    default:
      return STYLES[style] satisfies never;
  }
}

function polygon(style: string, ...points: readonly (readonly [number, number])[]): string {
  return `<polygon class="mark ${style}" points="${points.map(([px, py]) => `${n(px)},${n(py)}`).join(" ")}"/>`;
}

function text(x: number, y: number, content: string, classes: string): string {
  return `<text class="${classes}" x="${n(x)}" y="${n(y)}">${escaped(content)}</text>`;
}

function styles(): string {
  const colours = (theme: "light" | "dark") =>
    Object.entries(STYLES).map(([name, style]) => `.${name}{stroke:${style[theme]};--fill:${style[theme]}}`);
  const dashes = Object.entries(STYLES).map(([name, { dash }]) =>
    dash === "" ? "" : `.line.${name}{stroke-dasharray:${dash}}`,
  );
  return [
    "text{font:12px system-ui,sans-serif;fill:#1f1f1f}.panel{font-weight:600}.middle{text-anchor:middle}.end{text-anchor:end}",
    ".ground{fill:#ffffff}.frame{fill:none;stroke:#9aa0a6}.grid{stroke:#e3e5e8}",
    ".line{fill:none;stroke-width:2}.mark{fill:var(--fill);stroke-width:0}.ring{fill:#ffffff;stroke-width:2}",
    ...colours("light"),
    ...dashes,
    "@media (prefers-color-scheme:dark){text{fill:#e8eaed}.ground{fill:#16181c}.frame{stroke:#80868b}.grid{stroke:#34373c}.ring{fill:#16181c}",
    ...colours("dark"),
    "}",
  ].join("");
}

function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function escaped(value: string): string {
  return value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
