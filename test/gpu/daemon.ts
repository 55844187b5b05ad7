/** The built daemon on this host's GPUs, on a port and a database of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("../../dist/gpu-orchestrator.js", import.meta.url));
/** Seconds, so that what takes "two readings" is soon seen. */
const REFRESH = "1s";
const LOOK_MS = 100;
const FIRST_LOOK_MS = 30_000;
/** Of /proc: the clock ticks of a second, on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

export interface GpuNow {
  readonly id: number | null;
  readonly uuid: string;
  readonly name: string;
  readonly state: string;
  readonly reason: string | null;
  readonly memory_total: number | null;
  readonly memory_used: number | null;
  readonly utilization: number | null;
  readonly temperature: number | null;
  readonly power_draw: number | null;
  readonly processes: readonly { readonly pid: number; readonly allocation_id: string | null }[];
  readonly links: { readonly [uuid: string]: string } | null;
  readonly health: { readonly slowdown: boolean | null };
}

export interface StatusNow {
  readonly gpus: readonly GpuNow[];
  readonly driver_version: string | null;
  readonly monitor: {
    readonly last_reading_at: string | null;
    readonly failure: { readonly message: string } | null;
    readonly warnings: readonly string[];
    readonly kernel_log: { readonly readable: boolean; readonly problem: string | null } | null;
  };
}

export interface Answered {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: a check looks at whatever is there.
  readonly body: any;
}

export class GpuDaemon {
  readonly #child: ChildProcess;
  readonly #url: string;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
  }

  /** @param nvidiaSmi `null`: the one on the PATH. */
  static async start(folder: string, nvidiaSmi: string | null): Promise<GpuDaemon> {
    const settings = {
      server: { port: 0 },
      storage: { path: join(folder, "gpu-orchestrator.db") },
      monitoring: { refresh_interval: REFRESH, ...(nvidiaSmi === null ? {} : { nvidia_smi_path: nvidiaSmi }) },
      sharing: { settle_after: "2s", settle_timeout: "20s" },
    };
    const file = join(folder, "config.yaml");
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(settings));
    const child = spawn(process.execPath, [PROGRAM, "serve", "--config", file], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const url = await new Promise<string>((resolve, reject) => {
      child.once("exit", () => reject(new Error("the daemon ended at its start")));
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
        const at = /"url":"(http:[^"]+)".*"msg":"serving"/.exec(line)?.[1];
        if (at !== undefined) resolve(at);
      });
    });
    const daemon = new GpuDaemon(child, url);
    await daemon.#firstLook();
    return daemon;
  }

  /** Returns when the driver has answered, or has not for so long that a check will say so. */
  async #firstLook(): Promise<void> {
    const begun = performance.now();
    while (performance.now() - begun < FIRST_LOOK_MS) {
      if ((await this.status()).monitor.last_reading_at !== null) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await gone;
  }

  async call(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Answered> {
    const answer = await fetch(this.#url + path, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
  }

  async status(): Promise<StatusNow> {
    return (await this.call("GET", "/gpu/status")).body;
  }

  async gpu(uuid: string): Promise<GpuNow> {
    const found = (await this.status()).gpus.find((one) => one.uuid === uuid);
    if (found === undefined) throw new Error(`${uuid} is not in the status`);
    return found;
  }

  /**
   * Looks until a GPU satisfies.
   *
   * @returns how many readings that took: of those that came after this was called.
   * @throws Error after so many ms, with the GPU as it is then.
   */
  async until(uuid: string, satisfies: (gpu: GpuNow) => boolean, timeoutMs: number): Promise<number> {
    const seen = new Set<string | null>();
    const begun = performance.now();
    for (;;) {
      const { gpus, monitor } = await this.status();
      seen.add(monitor.last_reading_at);
      const gpu = gpus.find((one) => one.uuid === uuid);
      if (gpu !== undefined && satisfies(gpu)) return seen.size - 1;
      if (performance.now() - begun > timeoutMs) {
        throw new Error(`after ${timeoutMs / 1_000} s it is ${gpu?.state} (${gpu?.reason ?? "no reason"})`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Lets so many readings pass. @returns the ms of processor time that the daemon itself took for each. */
  async readingCostMs(readings: number): Promise<number> {
    const before = this.#cpuMs();
    const seen = new Set<string | null>([(await this.status()).monitor.last_reading_at]);
    while (seen.size <= readings) {
      seen.add((await this.status()).monitor.last_reading_at);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    return (this.#cpuMs() - before) / readings;
  }

  #cpuMs(): number {
    const fields = readFileSync(`/proc/${this.#child.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1_000;
  }
}
