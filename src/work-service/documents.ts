/** YAML and JSON as they are sent, to values. */
import { type Document, LineCounter, parseDocument } from "yaml";
import type { JsonValue } from "../core/base/json.ts";
import { WorkError } from "../work/errors.ts";

/** An alias costs nothing to write, and may unfold to much. */
const MAX_ALIASES = 100;
const MAX_DEPTH = 64;

/**
 * The value of one YAML document, which may be JSON.
 *
 * @throws WorkError `malformed-yaml`, with line and column and nothing of the text.
 */
export function readYaml(text: string): JsonValue {
  const lines = new LineCounter();
  const document = parsed(text, lines);
  // A tag that nobody knows is a warning to the parser, and a wish that is not granted to whoever wrote it.
  const [problem] = [...document.errors, ...document.warnings];
  if (problem !== undefined) {
    const { line, col } = lines.linePos(problem.pos[0]);
    const what = problem.code === "MULTIPLE_DOCS" ? "more than one document" : problem.message.split(/[:\n]/, 1)[0];
    throw malformed(`${what} at line ${line}, column ${col}`);
  }
  try {
    // What JSON has no word for (a date, an infinite number) becomes what JSON has.
    const value = JSON.parse(JSON.stringify(document.toJS({ maxAliasCount: MAX_ALIASES })) ?? "null") as JsonValue;
    if (isDeeper(value, MAX_DEPTH)) throw malformed(`nested deeper than ${MAX_DEPTH} levels`);
    return value;
  } catch (error) {
    if (error instanceof WorkError) throw error;
    throw malformed(`more than ${MAX_ALIASES} aliases, or nested too deep`);
  }
}

function parsed(text: string, lineCounter: LineCounter): Document {
  try {
    return parseDocument(text, { lineCounter, uniqueKeys: true, prettyErrors: false });
  } catch {
    throw malformed("nested too deep");
  }
}

function isDeeper(value: unknown, limit: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? Object.values(item) : []));
  }
  return false;
}

function malformed(detail: string): WorkError {
  return new WorkError("malformed-yaml", `Invalid YAML: ${detail}`);
}
