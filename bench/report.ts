import { writeFileSync } from "node:fs";

/** Markdown, said as it is made and kept for the file. */
export class Report {
  readonly #lines: string[] = [];

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
