/** What a run has written, as lines that can be shown. Pure. */

export interface LogLine {
  /** Counts up: a line keeps its number when older ones are dropped. */
  readonly n: number;
  /** When it was written, in ms; `null`: it is not told. */
  readonly at: number | null;
  readonly stream: "stdout" | "stderr";
  readonly text: string;
}

/** So many are kept, the oldest dropped. */
export const MAX_LINES = 2_000;
/** Of one line so many characters are shown. */
const MAX_CHARACTERS = 4_000;

/** The colours and moves of terminals, which a page has none of (ECMA-48, section 5.4), and titles that are set. */
const ESCAPES = /\p{Cc}\[[0-?]*[ -/]*[@-~]|\p{Cc}\][^\p{Cc}]*(\p{Cc}\\|\p{Cc})/gu;
/** What is no letter, and what turns the direction of those that follow. */
const UNSEEN = /(?!\t)\p{Cc}|[\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** A line as a terminal would have left it: without escapes, and of what was written over only the last. */
export function shownText(text: string): string {
  const plain = text.replace(ESCAPES, "").replace(/\r+$/, "");
  const last = plain.slice(plain.lastIndexOf("\r") + 1);
  const shown = last.length > MAX_CHARACTERS ? `${last.slice(0, MAX_CHARACTERS)} …` : last;
  return shown.replace(UNSEEN, "\ufffd");
}

/** The lines with further ones behind them. */
export function withLines(lines: readonly LogLine[], more: readonly Omit<LogLine, "n">[]): readonly LogLine[] {
  const first = (lines.at(-1)?.n ?? -1) + 1;
  return [...lines, ...more.map((line, i) => ({ ...line, n: first + i }))].slice(-MAX_LINES);
}
