/**
 * gpuo's own words beside a command that has the terminal. Written past Node's streams: those make a pipe that gpuo shares
 * with its command non-blocking, and programs do not expect that of their output.
 */
import { writeSync } from "node:fs";
import { isatty } from "node:tty";
import { visible } from "../../platform/printable.ts";
import { cut } from "../table.ts";

const STDERR = 2;
const CLEAR_LINE = "\r\x1b[K";
const DEFAULT_WIDTH = 80;

export class Voice {
  readonly #quiet: boolean;
  readonly #rewrites = isatty(STDERR) && process.env.TERM !== "dumb";
  #status = "";

  constructor(quiet: boolean) {
    this.#quiet = quiet;
  }

  get isOnTerminal(): boolean {
    return this.#rewrites;
  }

  /** What holds for now: one line that is rewritten on a terminal, one a change elsewhere. */
  status(words: string): void {
    const text = visible(words);
    if (this.#quiet || text === this.#status) return;
    this.#status = text;
    write(this.#rewrites ? CLEAR_LINE + cut(text, this.#width - 1) : `gpuo: ${text}\n`);
  }

  clear(): void {
    if (this.#rewrites && this.#status !== "") write(CLEAR_LINE);
    this.#status = "";
  }

  say(words: string): void {
    if (!this.#quiet) this.warn(words);
  }

  /** Also when told to be quiet. */
  warn(words: string): void {
    this.clear();
    write(`gpuo: ${visible(words)}\n`);
  }

  get #width(): number {
    // A terminal is opened anew by Node, and so not shared with the command.
    return process.stderr.columns ?? DEFAULT_WIDTH;
  }
}

function write(text: string): void {
  try {
    writeSync(STDERR, text);
  } catch {
    // Whoever reads it is gone, or does not keep up: words are not worth failing for.
  }
}
