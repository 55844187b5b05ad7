/** Nodes that are not this host: what the settings say of them, built and started. */
import { resolve } from "node:path";
import type { ClusterConfig } from "../../config/cluster.ts";
import type { WorkConfig } from "../../config/work.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Books } from "../books.ts";
import type { Leases } from "../leases.ts";
import type { Log } from "../look.ts";
import type { MlocNodes } from "./mloc.ts";

export interface ElsewhereParts {
  readonly books: Books;
  readonly leases: Leases;
  readonly config: WorkConfig;
  readonly cluster: ClusterConfig;
  readonly clock: Clock;
  readonly log: Log;
}

export class Elsewhere {
  readonly #parts: ElsewhereParts;
  #mloc: MlocNodes | null = null;

  constructor(parts: ElsewhereParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    const { cluster, config, books, log } = this.#parts;
    if (cluster.mloc && cluster.redisUrl !== null) {
      // Loaded by those who need it: a Redis client is among it.
      const { MlocNodes: Nodes } = await import("./mloc.ts");
      const executors = Object.entries(config.executors).flatMap(([name, { type }]) => (type === "mloc" ? [name] : []));
      this.#mloc = new Nodes(books, { url: cluster.redisUrl, executors, resultsDir: resolve(config.resultsDir) }, log);
      this.#mloc.start();
    }
  }

  async stop(): Promise<void> {
    await this.#mloc?.stop();
  }

  /** Forgets MLOC's workers that are not heard of. @returns how many. */
  async removeStale(): Promise<number> {
    return (await this.#mloc?.removeStale()) ?? 0;
  }
}
