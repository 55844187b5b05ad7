import { writeFileSync } from "node:fs";

export type Figure = number;

/** Markdown, said as it is made and kept for the file; and the figures in it that are held against targets. */
export class Report {
  readonly #lines: string[] = [];
  readonly #figures = new Map<string, Figure>();

  note(key: string, build: string, figure: Figure): void {
    this.#figures.set(`${build}: ${key}`, figure);
  }

  /** `undefined`: nobody has noted it. */
  figure(key: string, build: string): Figure | undefined {
    return this.#figures.get(`${build}: ${key}`);
  }

  say(line = ""): void {
    this.#lines.push(line);
    console.log(line);
  }

  heading(text: string, ...about: string[]): void {
    if (this.#lines.length > 0) this.say();
    this.say(text);
    this.say();
    if (about.length === 0) return;
    for (const line of about) this.say(line);
    this.say();
  }

  table(...names: string[]): void {
    this.say(row(...names));
    this.say(`|${"---|".repeat(names.length)}`);
  }

  write(file: string): void {
    writeFileSync(file, `${this.#lines.join("\n").trimEnd()}\n`);
  }
}

export function row(...cells: readonly (string | number)[]): string {
  return `| ${cells.join(" | ")} |`;
}
