/** Nodes that are not this host: what the settings say of them, built and started. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import type { ClusterConfig } from "../../config/cluster.ts";
import type { WorkConfig } from "../../config/work.ts";
import type { Clock } from "../../platform/clock.ts";
import { WorkError } from "../../work/errors.ts";
import type { Run } from "../../work/model.ts";
import type { Books } from "../books.ts";
import type { Leases } from "../leases.ts";
import type { Log } from "../look.ts";
import { opened } from "../opened.ts";
import type { Controller } from "./controller.ts";
import type { Member } from "./member.ts";
import type { MlocNodes } from "./mloc.ts";
import { askNode } from "./passing.ts";

const SHORTEST_SECRET = 16;

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
  #secret: Buffer | null = null;
  #link: Controller | Member | null = null;

  constructor(parts: ElsewhereParts) {
    this.#parts = parts;
  }

  /** @throws Error when the secret cannot be read. */
  async start(): Promise<void> {
    const { cluster, config, books, log } = this.#parts;
    await this.#startLink();
    if (cluster.mloc && cluster.redisUrl !== null) {
      // Loaded by those who need it: a Redis client is among it.
      const { MlocNodes: Nodes } = await import("./mloc.ts");
      const executors = Object.entries(config.executors).flatMap(([name, { type }]) => (type === "mloc" ? [name] : []));
      this.#mloc = new Nodes(books, { url: cluster.redisUrl, executors, resultsDir: resolve(config.resultsDir) }, log);
      this.#mloc.start();
    }
  }

  async #startLink(): Promise<void> {
    const { cluster, config, ...parts } = this.#parts;
    const { secret } = this;
    if (cluster.redisUrl === null || secret === null) return;
    const resultsDir = resolve(config.resultsDir);
    const shared = {
      url: cluster.redisUrl,
      secret,
      ttlMs: cluster.heartbeatTtlMs,
      intervalMs: cluster.heartbeatIntervalMs,
    };
    if (cluster.role === "controller") {
      const { Controller: Side } = await import("./controller.ts");
      this.#link = new Side(parts, { ...shared, resultsDir });
    } else {
      const { Member: Side } = await import("./member.ts");
      const { NodeFiles } = await import("./node-files.ts");
      const { executors, maxTasks } = config;
      const files = new NodeFiles(resolve(config.dir), resultsDir);
      const own = { node: config.node ?? hostname(), nodeUrl: cluster.nodeUrl };
      this.#link = new Side({ ...parts, files }, { ...shared, ...own, executors: opened(executors), maxTasks });
    }
    this.#link.start();
  }

  async stop(): Promise<void> {
    const link = this.#link;
    await Promise.all([this.#mloc?.stop(), link === null || "leave" in link ? link?.leave() : link.stop()]);
  }

  /** The secret that this host shares with others; `null`: it is alone. */
  get secret(): Buffer | null {
    const { role, secretFile } = this.#parts.cluster;
    if (role === null || secretFile === null) return null;
    this.#secret ??= secretIn(secretFile);
    return this.#secret;
  }

  /**
   * What the node of a run has of it: `logs?...`, `files/...`.
   *
   * @returns `null`: the run is of this host.
   * @throws WorkError `node-unreachable`
   */
  async ofRun(run: Run, path: string, signal: AbortSignal): Promise<Response | null> {
    const node = run.phase === "waiting" ? null : run.node;
    const link = node === null ? undefined : this.#parts.books.state.workers.get(node)?.link;
    if (link?.kind !== "member" || this.secret === null) return null;
    if (link.url === null) throw new WorkError("node-unreachable", `node ${node} has no cluster.node_url`);
    try {
      return await askNode(link.url, `/cluster/runs/${encodeURIComponent(run.id)}/${path}`, this.secret, signal);
    } catch (error) {
      throw new WorkError("node-unreachable", `node ${node}: ${(error as Error).message}`);
    }
  }

  /** How long assignments to other nodes live; `null`: none are made. */
  get times(): { readonly ttlMs: number; readonly intervalMs: number } | null {
    const { role, heartbeatTtlMs: ttlMs, heartbeatIntervalMs: intervalMs } = this.#parts.cluster;
    return role === "controller" ? { ttlMs, intervalMs } : null;
  }

  /** Whether Redis is there; `null`: nobody needs it. */
  get brokerUp(): boolean | null {
    return (this.#link ?? this.#mloc)?.up ?? null;
  }

  /** Forgets MLOC's workers that are not heard of. @returns how many. */
  async removeStale(): Promise<number> {
    return (await this.#mloc?.removeStale()) ?? 0;
  }
}

function secretIn(file: string): Buffer {
  const secret = readFileSync(file, "utf8").trim();
  if (secret.length >= SHORTEST_SECRET) return Buffer.from(secret);
  throw new Error(`cluster.secret_file ${file}: expected at least ${SHORTEST_SECRET} bytes`);
}
