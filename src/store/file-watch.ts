/**
 * Whether the database that is open is still the one at its path. SQLite writes on into a file that was deleted or
 * replaced under it, and all that is then written is lost with the process.
 */
import { statSync } from "node:fs";

interface Identity {
  readonly dev: number;
  readonly ino: number;
  readonly size: number;
}

export class FileWatch {
  readonly #file: string;
  #main: Identity | null;
  /** `null`: not seen yet. SQLite keeps one log for as long as the file is open. */
  #log: Identity | null;

  /** @param file is open and unharmed. */
  constructor(file: string) {
    this.#file = file;
    this.#main = identityOf(file);
    this.#log = identityOf(`${file}-wal`);
  }

  /** What is wrong with the file, and what to do; `null`: nothing. By name alone: see open.ts, 3. */
  trouble(): string | null {
    try {
      return this.#look();
    } catch (error) {
      // Nobody can say that it is the same: the folder may be closed to the daemon, or its disk be failing.
      return `${this.#file} cannot be looked at (${(error as Error).message}): see to its folder and its disk`;
    }
  }

  #look(): string | null {
    const file = this.#file;
    const main = identityOf(file);
    const whatToDo = "stop the daemon, put the database or a backup of it in place, and start it again";
    if (main === null) return `${file} was deleted under the daemon: ${whatToDo}`;
    if (this.#main !== null && !isSame(main, this.#main)) return `${file} was replaced under the daemon: ${whatToDo}`;
    if (this.#main !== null && main.size < this.#main.size)
      return `${file} was cut short under the daemon: ${whatToDo}`;
    this.#main = main;
    const log = identityOf(`${file}-wal`);
    if (this.#log !== null && (log === null || !isSame(log, this.#log))) {
      return `${file}-wal was deleted or replaced under the daemon: ${whatToDo}`;
    }
    this.#log = log;
    return null;
  }
}

function identityOf(path: string): Identity | null {
  return statSync(path, { throwIfNoEntry: false }) ?? null;
}

function isSame(a: Identity, b: Identity): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}
