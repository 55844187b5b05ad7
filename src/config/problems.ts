/** What is wrong with the settings, and where it stands. */

/** Where a setting came from. `line` is null when the problem is the file as a whole. */
export type Origin =
  | { readonly kind: "file"; readonly file: string; readonly line: number | null; readonly column: number }
  | { readonly kind: "environment"; readonly name: string }
  | { readonly kind: "flag"; readonly name: string }
  | { readonly kind: "default" };

export interface Problem {
  readonly origin: Origin;
  /** Dotted keys, such as `server.port`; empty for the file as a whole. Never holds an API key. */
  readonly path: string;
  readonly message: string;
  /** What was probably meant. */
  readonly hint: string | null;
}

const MAX_PROBLEMS_PRINTED = 100;

/** The settings cannot be used. Carries every problem that was found, not only the first. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(formatProblemList(problems));
    this.name = "ConfigError";
    this.problems = problems;
  }
}

/** One line for each problem: `file:line:column path: problem (did you mean ...)`. */
export function formatProblems(error: ConfigError): string {
  return formatProblemList(error.problems);
}

export function formatProblem(problem: Problem): string {
  const hint = problem.hint === null ? "" : ` (did you mean ${problem.hint}?)`;
  return printable(`${place(problem)}: ${problem.message}${hint}`);
}

/** A problem is one line and steers no terminal, whatever stands in the file or its name. */
function printable(line: string): string {
  return line.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
  });
}

function formatProblemList(problems: readonly Problem[]): string {
  const lines = problems.slice(0, MAX_PROBLEMS_PRINTED).map(formatProblem);
  if (problems.length > lines.length) lines.push(`... and ${problems.length - lines.length} more`);
  return lines.join("\n");
}

function place({ origin, path }: Problem): string {
  switch (origin.kind) {
    case "file": {
      const position = origin.line === null ? origin.file : `${origin.file}:${origin.line}:${origin.column}`;
      return path === "" ? position : `${position} ${path}`;
    }
    case "environment":
      return `environment ${origin.name}`;
    case "flag":
      return origin.name;
    case "default":
      return path;
    default:
      return origin satisfies never;
  }
}
