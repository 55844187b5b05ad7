/** What a service uses, measured now and then: its processes by /proc, its requests by the engine's own metrics. */
import { readFileSync } from "node:fs";
import { request } from "node:http";
import type { RunUsage } from "../work/model.ts";

const SAMPLE_MS = 10_000;
const METRICS_TIMEOUT_MS = 2_000;
const MAX_METRICS_BYTES = 4 * 2 ** 20;
/** Of the kernel's clock, which /proc counts by (proc(5), sysconf(_SC_CLK_TCK)): the same on all that node runs on. */
const TICK_MS = 10;
const PAGE_BYTES = 4_096;

interface Sample {
  readonly at: number;
  /** In ticks, by process. */
  readonly cpu: ReadonlyMap<number, number>;
  readonly requests: Requests | null;
}

/** Counted since the engine began. */
interface Requests {
  readonly count: number;
  readonly failed: number;
  readonly latencyCount: number;
  readonly latencySeconds: number;
}

export class UsageMeter {
  readonly #last = new Map<string, Sample>();
  readonly #usage = new Map<string, RunUsage>();
  readonly #busy = new Set<string>();

  /** Of all that have been measured twice. */
  get all(): Readonly<Record<string, RunUsage>> {
    return Object.fromEntries(this.#usage);
  }

  forget(run: string): void {
    this.#last.delete(run);
    this.#usage.delete(run);
  }

  /** Measures it if it is time. @param members its processes: looked for only then. */
  look(run: string, host: string, port: number, members: () => readonly number[], now = Date.now()): void {
    const last = this.#last.get(run);
    // One from a time that the clock was set back from says nothing.
    const isEarlier = last !== undefined && last.at <= now;
    if (this.#busy.has(run) || (isEarlier && now - last.at < SAMPLE_MS)) return;
    this.#busy.add(run);
    const pids = members();
    void requestsOf(host, port).then((requests) => {
      this.#busy.delete(run);
      const sample: Sample = { at: now, cpu: new Map(pids.flatMap(cpuTicks)), requests };
      this.#last.set(run, sample);
      if (isEarlier) this.#usage.set(run, between(last, sample, memoryBytes(pids)));
    });
  }
}

export function between(from: Sample, to: Sample, memory: number): RunUsage {
  const seconds = (to.at - from.at) / 1_000;
  let ticks = 0;
  for (const [pid, now] of to.cpu) ticks += Math.max(0, now - (from.cpu.get(pid) ?? now));
  return {
    at: to.at,
    cpuMillis: (ticks * TICK_MS) / seconds,
    memoryBytes: memory,
    ...ofRequests(from.requests, to.requests, seconds),
  };
}

/** All unknown where the engine tells nothing, or has begun anew. */
function ofRequests(from: Requests | null, to: Requests | null, seconds: number) {
  if (from === null || to === null || to.count < from.count)
    return { requestsPerSecond: null, latencyMs: null, errorRate: null };
  const count = to.count - from.count;
  const timed = to.latencyCount - from.latencyCount;
  return {
    requestsPerSecond: count / seconds,
    latencyMs: timed > 0 ? ((to.latencySeconds - from.latencySeconds) * 1_000) / timed : null,
    errorRate: count > 0 ? (to.failed - from.failed) / count : null,
  };
}

/** vLLM's counters, over all models and engines; `null`: there are none of them. */
export function parseRequests(text: string): Requests | null {
  let found = false;
  const sums = { count: 0, failed: 0, latencyCount: 0, latencySeconds: 0 };
  for (const line of text.split("\n")) {
    const [, name, labels = "", value] = /^vllm:([a-z0-9_]+)(\{.*\})? ([0-9.eE+-]+)$/.exec(line.trim()) ?? [];
    if (name === undefined) continue;
    const number = Number(value);
    if (name === "request_success_total") {
      found = true;
      sums.count += number;
      if (labels.includes('finished_reason="error"')) sums.failed += number;
    } else if (name === "e2e_request_latency_seconds_sum") sums.latencySeconds += number;
    else if (name === "e2e_request_latency_seconds_count") sums.latencyCount += number;
  }
  return found ? sums : null;
}

function requestsOf(host: string, port: number): Promise<Requests | null> {
  return new Promise((resolve) => {
    const call = request({ host, port, path: "/metrics", agent: false, timeout: METRICS_TIMEOUT_MS }, (answer) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      answer.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_METRICS_BYTES) done(null);
        else chunks.push(chunk);
      });
      answer.on("end", () => done(answer.statusCode === 200 ? parseRequests(Buffer.concat(chunks).toString()) : null));
      answer.on("error", () => done(null));
    });
    const deadline = setTimeout(() => done(null), METRICS_TIMEOUT_MS);
    const done = (requests: Requests | null) => {
      clearTimeout(deadline);
      call.destroy();
      resolve(requests);
    };
    call.on("timeout", () => done(null));
    call.on("error", () => done(null));
    call.end();
  });
}

function cpuTicks(pid: number): [number, number][] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return [[pid, Number(fields[11]) + Number(fields[12])]];
  } catch {
    return [];
  }
}

/** Resident: what processes share is counted once for each. */
function memoryBytes(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    try {
      return sum + Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * PAGE_BYTES;
    } catch {
      return sum;
    }
  }, 0);
}
