/** A real Redis for one test file, on a port of its own, which can be killed, emptied and started again. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectRedis, type RedisReply } from "../../src/broker/connection.ts";
import { freePort } from "../e2e/free-port.ts";

export const hasRedis = spawnSync("redis-server", ["--version"]).status === 0;
export const NEEDS_REDIS = "needs redis-server (Debian: redis-server)";

export class TestRedis {
  readonly port: number;
  readonly #folder = mkdtempSync(join(tmpdir(), "gpuo-redis-"));
  #process: ChildProcess | null = null;

  private constructor(port: number) {
    this.port = port;
  }

  static async start(): Promise<TestRedis> {
    const redis = new TestRedis(await freePort());
    await redis.begin();
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Empty, as after a failover to one that had nothing. */
  async begin(): Promise<void> {
    const options = ["--port", String(this.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    this.#process = spawn("redis-server", [...options, "--dir", this.#folder], { stdio: "ignore" });
    for (let i = 0; ; i++) {
      try {
        await this.call("PING");
        return;
      } catch (error) {
        if (i > 600) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async call(...args: readonly string[]): Promise<RedisReply> {
    const redis = await connectRedis(this.url);
    try {
      return await redis.call(args);
    } finally {
      redis.close();
    }
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
