/** What a node keeps in its folder for its part in the cluster, and the clock that its holders go by. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { nextInstance } from "../../platform/instance.ts";
import { readUptimeMark, uptimeMark, uptimeMs } from "../../platform/uptime.ts";
import { writeWhole } from "../../platform/write-whole.ts";
import { HEARD_FILE } from "../../work/nodes.ts";
import { resultFile } from "../output.ts";

const READABLE = 0o644;

export class NodeFiles {
  readonly #dir: string;
  readonly #resultsDir: string;

  constructor(dir: string, resultsDir: string) {
    mkdirSync(dir, { recursive: true });
    this.#dir = dir;
    this.#resultsDir = resultsDir;
  }

  /** Where it stands whom this node obeys: for messages. */
  get controllerFile(): string {
    return join(this.#dir, "controller.json");
  }

  /** @returns `null`: nobody yet. @throws Error when it cannot be read. */
  controller(): string | null {
    try {
      const { controller } = JSON.parse(readFileSync(this.controllerFile, "utf8")) as { readonly controller: unknown };
      if (typeof controller === "string") return controller;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw new Error(`${this.controllerFile}: ${(error as Error).message}`);
    }
    throw new Error(`${this.controllerFile}: expected {"controller": NAME}`);
  }

  obey(controller: string): void {
    writeWhole(this.controllerFile, JSON.stringify({ controller }), READABLE);
  }

  /** Of a process of the daemon that begins now: higher than that of those before it. */
  nextInstance(now: number): number {
    return nextInstance(this.#dir, "member", now);
  }

  uptimeMs(): number {
    return uptimeMs();
  }

  /** When the last heartbeat that was answered was sent, by the host's uptime; `null`: none of this boot was. */
  heardAt(): number | null {
    return readUptimeMark(join(this.#dir, HEARD_FILE));
  }

  heard(sentAt: number): void {
    writeWhole(join(this.#dir, HEARD_FILE), uptimeMark(sentAt), READABLE);
  }

  /** Its `responses.json`; `null`: there is none. */
  result(run: string): Promise<string | null> {
    return resultFile(this.#resultsDir, run, "responses.json").then(String, () => null);
  }
}
