/** Takes out of captures what tells whose machine it was, the same name for the same thing in all of them. */
import { hostname, userInfo } from "node:os";

export class Scrubber {
  readonly #uuids = new Map<string, string>();
  readonly #programs = new Map<string, string>();
  readonly #names: readonly string[];

  /** @param names of the machine and its users. */
  constructor(names: readonly string[] = [hostname(), userInfo().username]) {
    // A short word stands in too many places that are not it; root is everybody's.
    this.#names = names.filter((name) => name.length > 2 && name !== "root");
  }

  scrub(text: string): string {
    let clean = text
      .replace(/\b(GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/gi, (uuid) => this.#uuid(uuid))
      .replace(/(<(serial|board_part_number|chassis_serial_number)>)[^<]*/g, "$10")
      .replace(/(<process_name>)([^<]*)/g, (_, tag, name) => tag + this.#program(name))
      .replace(/\bname=('?)([^',\s]+)/g, (_, quote, name) => `name=${quote}${this.#program(name)}`);
    for (const name of this.#names) clean = clean.replaceAll(name, "scrubbed");
    return clean;
  }

  #uuid(uuid: string): string {
    const kind = uuid.slice(0, 3).toUpperCase();
    const key = uuid.toLowerCase();
    const known =
      this.#uuids.get(key) ?? `${kind}-00000000-0000-4000-8000-${String(this.#uuids.size + 1).padStart(12, "0")}`;
    this.#uuids.set(key, known);
    return known;
  }

  #program(name: string): string {
    const known = this.#programs.get(name) ?? `program-${this.#programs.size + 1}`;
    this.#programs.set(name, known);
    return known;
  }
}
