/** A controller and its nodes: the daemons' parts in this process, workers and holders as processes, Redis for real. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import type { Run } from "../../src/work/model.ts";
import { Controller } from "../../src/work-service/elsewhere/controller.ts";
import { Member } from "../../src/work-service/elsewhere/member.ts";
import { NodeFiles } from "../../src/work-service/elsewhere/node-files.ts";
import { Site, type SiteOptions, until } from "../worker/site.ts";
import { Passage } from "./passage.ts";
import type { TestRedis } from "./redis.ts";

export const QUIET = { info: () => undefined, warn: () => undefined, error: () => undefined };
export const SECRET = Buffer.from("a-secret-of-more-than-16-bytes");
/** So that a run with a grace of a second is fenced off a second and a half after the last answered heartbeat. */
export const TIMES = { ttlMs: 17_500, intervalMs: 500 };

const EXECUTORS = {
  process: { type: "process", programs: ["/bin/sh"] },
  simulated: { type: "simulated" },
  vllm: { type: "vllm", command: [process.execPath, new URL("../fixtures/fake-vllm.mjs", import.meta.url).pathname] },
} as const;

export class Host {
  readonly site: Site;
  readonly name: string;
  readonly #redis: TestRedis;
  proxy!: Passage;
  #member: Member | null = null;

  constructor(name: string, redis: TestRedis, options: SiteOptions = {}) {
    this.name = name;
    this.#redis = redis;
    this.site = new Site({
      node: name,
      executors: { simulated: EXECUTORS.simulated, vllm: EXECUTORS.vllm },
      ...options,
    });
  }

  async start(): Promise<this> {
    this.proxy = await new Passage(this.#redis.port).start();
    await this.site.start();
    this.join();
    return this;
  }

  join(): void {
    const { config } = loadConfig({ path: null, explicit: false, env: {}, flags: {} });
    const filled = Object.entries(EXECUTORS).map(([name, own]) => [name, { ...BLANK, ...own }]);
    const { dir, books, leases } = this.site;
    this.#member = new Member(
      { books, leases, files: new NodeFiles(dir, join(dir, "results")), clock: steadyClock(), log: QUIET },
      {
        url: this.proxy.url,
        secret: SECRET,
        node: this.name,
        nodeUrl: null,
        ...TIMES,
        executors: Object.fromEntries(filled),
        maxTasks: config.work.maxTasks,
      },
    );
    this.#member.start();
  }

  /** As its daemon does that is told to stop. */
  async leave(): Promise<void> {
    await this.#member?.leave();
    this.#member = null;
    await this.site.killDaemon();
  }

  async killDaemon(): Promise<void> {
    await this.#member?.stop();
    this.#member = null;
    await this.site.killDaemon();
  }

  async startDaemon(): Promise<void> {
    await this.site.startDaemon();
    this.join();
  }

  async stop(): Promise<void> {
    await this.#member?.stop();
    await this.site.close();
    await this.proxy.stop();
  }
}

/** An executor that says only what it is. */
export const BLANK = {
  command: null,
  python: null,
  module: null,
  class: null,
  engine: "podman",
  programs: [],
  images: [],
  args: [],
  env: {},
  passEnv: [],
  userEnv: [],
  mounts: [],
  network: "none",
  cdi: true,
  allowRemoteCode: false,
} as const;

/** Takes work, and has no GPUs and no worker of its own. */
export class Head {
  readonly site = new Site({ gpus: 0 });
  readonly #redis: TestRedis;
  #controller: Controller | null = null;

  constructor(redis: TestRedis) {
    this.#redis = redis;
  }

  async start(): Promise<this> {
    await this.site.startDaemon();
    const settings = { url: this.#redis.url, secret: SECRET, resultsDir: join(this.site.dir, "results"), ...TIMES };
    this.#controller = new Controller({ books: this.site.books, clock: steadyClock(), log: QUIET }, settings);
    this.#controller.start();
    return this;
  }

  async kill(): Promise<void> {
    await this.#controller?.stop();
    await this.site.killDaemon();
  }

  get isUp(): boolean {
    return this.#controller?.up === true;
  }

  sees(...names: readonly string[]): Promise<void> {
    return until(`it sees ${names.join(", ")}`, () =>
      names.every((name) => this.site.books.state.workers.get(name)?.link !== undefined),
    );
  }

  submit(script: string, spec: object = {}, gpus = 1): string {
    return this.site.submit(["/bin/sh", "-c", script], spec, gpus);
  }

  /** The newest run of a job, where it has a node. */
  placed(job: string): Extract<Run, { readonly node: string }> | null {
    const run = this.site.run(job);
    return run === undefined || run.phase === "waiting" || run.node === null ? null : (run as never);
  }

  result(task: string): unknown {
    const path = join(this.site.dir, "results", task, "responses.json");
    return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : null;
  }

  /** Ends all that it has given away. */
  async stop(): Promise<void> {
    const { books } = this.site;
    for (const { id, deleted } of [...books.state.workloads.values()]) {
      if (!deleted) books.command({ type: "delete-workload", id });
    }
    for (const id of [...books.state.openTasks.values()]) books.command({ type: "cancel-task", id });
    await until("everything has stopped", () => books.state.openRuns.size === 0, 90_000);
    await this.kill();
    rmSync(this.site.dir, { recursive: true, force: true });
  }
}
