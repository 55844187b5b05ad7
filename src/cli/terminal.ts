/** What is written where: data on stdout, talk on stderr; colours and escapes on a terminal alone. */
import { visible } from "../platform/printable.ts";

/** Where no terminal says how wide it is. */
const DEFAULT_WIDTH = 100;
const NARROWEST = 40;

const COLORS = { red: 31, green: 32, yellow: 33, blue: 34, dim: 2, bold: 1 } as const;
export type Color = keyof typeof COLORS;

export interface OutputOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  /** commander's `--no-color`. */
  readonly color?: boolean;
}

export class Terminal {
  readonly json: boolean;
  readonly #quiet: boolean;
  readonly #colored: boolean;

  constructor({ json = false, quiet = false, color = true }: OutputOptions = {}) {
    this.json = json;
    this.#quiet = quiet;
    const refused = (process.env.NO_COLOR ?? "") !== "" || process.env.TERM === "dumb";
    this.#colored = color && !refused && process.stdout.isTTY === true;
  }

  get width(): number {
    const told = Number(process.stdout.columns ?? process.env.COLUMNS);
    return Number.isInteger(told) && told > 0 ? Math.max(NARROWEST, told) : DEFAULT_WIDTH;
  }

  get isTerminal(): boolean {
    return process.stdout.isTTY === true;
  }

  paint(text: string, color: Color | null): string {
    return this.#colored && color !== null ? `\x1b[${COLORS[color]}m${text}\x1b[0m` : text;
  }

  /** Data. */
  line(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  data(value: unknown): void {
    this.line(JSON.stringify(value));
  }

  /** Talk, each line made safe whatever others have put into it. */
  say(words: string): void {
    if (!this.#quiet) this.warn(words);
  }

  /** The same, also when told to be quiet. */
  warn(words: string): void {
    process.stderr.write(`gpuo: ${visible(words)}\n`);
  }
}
