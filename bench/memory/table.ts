import { MODEL_RECORDS, catalogue as models } from "../../src/core/analyzer/catalogue.ts";
import { MIB } from "../../src/core/analyzer/memory.ts";
import { total } from "../../src/core/analyzer/parameters.ts";
import { errorOf, type Figure, ownFigures, sharedFigures } from "./figures.ts";

export const DOCUMENT = new URL("../../docs/memory-model.md", import.meta.url);

const BEGIN = "<!-- table: npm run memory-table -->";
const END = "<!-- end of table -->";

function mib(bytes: number): string {
  const value = bytes / MIB;
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 100 ? 2 : 0 });
}

function percent(error: number): string {
  return `${error < 0 ? "" : "+"}${(error * 100).toFixed(2)} %`;
}

function row(figure: Figure): string {
  const published = figure.address.startsWith("http")
    ? `[${mib(figure.publishedBytes)}](${figure.address})`
    : mib(figure.publishedBytes);
  const from = figure.address.startsWith("http") ? "" : ` (${figure.address})`;
  return `| ${figure.model} | ${figure.what}${from} | ${mib(figure.predictedBytes)} | ${published} | ${percent(errorOf(figure))} |`;
}

/** The document with everything between the marks made anew. */
export function withTable(document: string): string {
  const [before, rest] = document.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`${DOCUMENT.pathname} lacks its marks`);
  const groups = Map.groupBy([...sharedFigures(), ...ownFigures()], ({ group }) => group);
  const parts = [...groups].map(([group, figures]) => {
    const errors = figures.map((figure) => Math.abs(errorOf(figure)));
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    return [
      `### ${group}: ${(mean * 100).toFixed(2)} % on average, ${(Math.max(...errors) * 100).toFixed(2)} % at most`,
      "",
      "| Model | What | Predicted MiB | Published MiB | Difference |",
      "|---|---|---|---|---|",
      ...figures.map(row),
    ].join("\n");
  });
  return `${before}${BEGIN}\n\n${parts.join("\n\n")}\n\n${catalogue()}\n\n${END}${after}`;
}

function catalogue(): string {
  const rows = models().map(({ id, architecture }, index) => {
    const counted = total(architecture.parameters) + architecture.unloadedParameters;
    const published = MODEL_RECORDS[index]?.parameters ?? 0;
    const kind = MODEL_RECORDS[index]?.kind ?? "";
    return `| ${id} | ${kind} | ${counted.toLocaleString("en-US")} | ${percent(counted / published - 1)} |`;
  });
  return [
    `### The catalogue: ${rows.length} models`,
    "",
    "| Model | Kind | Parameters by its configuration | Against the published number |",
    "|---|---|---|---|",
    ...rows,
  ].join("\n");
}
