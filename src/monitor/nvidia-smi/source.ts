import { totalmem } from "node:os";
import type { HostReading, Observation, ProbeFailure } from "../../core/model/reading.ts";
import type { Clock } from "../../platform/clock.ts";
import type { GpuSource } from "../../ports/gpu-source.ts";
import { ProcessTable } from "../process-table.ts";
import { MAX_OUTPUT_BYTES } from "./document.ts";
import { KnownGpus } from "./identity.ts";
import { KnownInstances } from "./known-instances.ts";
import { KnownTopology } from "./known-topology.ts";
import { isWhole, withLeftOut } from "./left-out.ts";
import { type ListedGpu, MAX_LISTING_BYTES } from "./listing.ts";
import { type KnownGpu, MIN_RUN_MS, readOneByOne } from "./one-by-one.ts";
import { parseNvidiaSmiInTurns, type SmiDocument } from "./parse.ts";
import { programOf } from "./program.ts";
import { type Run, type RunEnd, type SendSignal, startRun } from "./run.ts";
import { OutputSieve } from "./sieve.ts";
import { oneLine } from "./text.ts";
import { MAX_TOPOLOGY_BYTES, type SmiTopology } from "./topology.ts";
import { failureOf, judge, judgeListing, judgeTopology } from "./verdict.ts";

const DEFAULT_TIMEOUT_MS = 10_000;

/** All that the program is given of our environment: it may hold secrets. The second finds NVML on some hosts. */
const PASSED_ON = ["PATH", "LD_LIBRARY_PATH"] as const;

/** The driver knows nothing of pid namespaces; what it lists in one of its own cannot be looked up. */
const FOREIGN_PIDS =
  "the driver's processes are not known here, so none can be told from another (in a container: share the host's pids)";

export interface NvidiaSmiOptions {
  /** Looked up in PATH when it has no slash. */
  readonly path?: string;
  readonly timeoutMs?: number;
  readonly clock: Clock;
  /** For tests only of what no signal ends. */
  readonly signal?: SendSignal;
  /** Where processes are looked up; the kernel's own unless a test says otherwise. */
  readonly processes?: ProcessTable;
  /** GPUs of earlier days: known in case that one is lost before the first listing. */
  readonly inventory?: readonly KnownGpu[];
}

const HOST_MEMORY_MIB = Math.floor(totalmem() / 1024 ** 2);

const READ = ["-q", "-x"] as const;
const ASK_TOPOLOGY = ["topo", "-m"] as const;
const LIST = ["-L"] as const;

/**
 * Reads the host's GPUs by running `nvidia-smi -q -x`, and seldom `nvidia-smi topo -m`; one run at a time. Where GPUs
 * are cut into MIG instances, a reading that shows others than before is followed by `nvidia-smi -L` in the same probe.
 *
 * The first reading waits for the topology, since what is granted at the start is granted by it. Later ones do not: that
 * a GPU is lost must be known at once; they only wait for a question that is under way, at most until its deadline.
 * Without a topology a reading is as good as with one. See also one-by-one.ts.
 */
export class NvidiaSmiSource implements GpuSource {
  readonly name = "nvidia-smi";
  readonly #program: string;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #signal: SendSignal | undefined;
  readonly #processes: ProcessTable;
  readonly #known = new KnownGpus();
  readonly #topology = new KnownTopology();
  readonly #instances = new KnownInstances();
  /** As the last whole listing showed them. */
  #roster: readonly KnownGpu[];
  #inFlight: Promise<Observation> | null = null;
  /** Never rejects. */
  #asking: Promise<void> | null = null;
  #underWay: Run | null = null;
  #abandonedPid: number | null = null;
  #abandonedTotal = 0;
  #closed = false;

  constructor(options: NvidiaSmiOptions) {
    // The program runs in `/`, so that it keeps no directory busy.
    this.#program = programOf(options.path ?? null);
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#clock = options.clock;
    this.#signal = options.signal;
    this.#processes = options.processes ?? new ProcessTable();
    this.#roster = options.inventory ?? [];
  }

  /** Runs that no signal could end, since the start. */
  get abandonedTotal(): number {
    return this.#abandonedTotal;
  }

  get stuck(): boolean {
    return this.#abandonedPid !== null;
  }

  /** The one of them that lives; `null`: none does. No run starts meanwhile. */
  get abandonedPid(): number | null {
    return this.#abandonedPid;
  }

  /** Callers that come while a run is under way share it. Never rejects. */
  probe(): Promise<Observation> {
    this.#inFlight ??= this.#observe().finally(() => {
      this.#inFlight = null;
    });
    return this.#inFlight;
  }

  /** Ends the run under way. Afterwards every probe fails at once. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#underWay?.stop();
    await this.#inFlight;
    await this.#asking;
  }

  async #observe(): Promise<Observation> {
    if (this.#asking !== null) await this.#asking;
    const startedAt = this.#clock.now();
    const outcome = await this.#read().catch(garbled);
    const finishedAt = this.#clock.now();
    return "kind" in outcome
      ? { ok: false, startedAt, finishedAt, failure: outcome }
      : { ok: true, startedAt, finishedAt, reading: await this.#withTopology(outcome) };
  }

  async #withTopology(reading: HostReading): Promise<HostReading> {
    if (this.#topology.isDue(reading, this.#clock.now())) {
      const isFirst = !this.#topology.wasAsked;
      this.#asking = this.#ask(reading).finally(() => {
        this.#asking = null;
      });
      if (isFirst) await this.#asking;
    }
    return this.#topology.complete(reading);
  }

  async #ask(reading: HostReading): Promise<void> {
    const answer = await this.#readTopology().catch((error: unknown) => garbled(error).message);
    this.#topology.learn(reading, answer, this.#clock.now());
  }

  async #readTopology(): Promise<SmiTopology | string> {
    if (this.#closed) return "the daemon is shutting down";
    const end = await this.#run(ASK_TOPOLOGY, MAX_TOPOLOGY_BYTES);
    return end.kind === "exited" ? judgeTopology(end) : failureOf(end, this.#program, this.#timeoutMs).message;
  }

  async #read(): Promise<HostReading | ProbeFailure> {
    if (this.#closed) return { kind: "exit", message: "the daemon is shutting down", exitCode: null };
    if (this.#abandonedPid !== null) {
      const message = `an earlier nvidia-smi, pid ${this.#abandonedPid}, cannot be killed; no other is started`;
      return { kind: "timeout", message, exitCode: null };
    }
    const deadline = this.#clock.now() + this.#timeoutMs;
    const end = await this.#run(READ, MAX_OUTPUT_BYTES);
    if (end.kind !== "exited") return failureOf(end, this.#program, this.#timeoutMs);
    const verdict = judge(end, await parseNvidiaSmiInTurns(end.stdout));
    if (!verdict.ok) return this.#withoutTheLost(verdict.failure, deadline);
    const { reading, attachedGpus } = verdict.document;
    const warnings = [...reading.warnings, ...verdict.warnings, ...miscount(verdict.document)];
    const incomplete = {
      reading: this.#known.recognise({ ...reading, warnings }),
      attachedGpus,
      named: verdict.named,
      roster: this.#roster,
      run: (args: readonly string[], timeoutMs: number) => this.#run(args, MAX_OUTPUT_BYTES, timeoutMs),
      list: () => this.#list(deadline),
      leftMs: () => this.#leftMs(deadline),
    };
    const whole = await withLeftOut(incomplete);
    this.#roster = isWhole(incomplete) ? whole.gpus : rosterOf(whole.gpus, this.#roster);
    return this.#withOrigins(await this.#withInstances({ ...whole, hostMemoryMib: HOST_MEMORY_MIB }, deadline));
  }

  /** One lost GPU must not hide the others. Tried anew with each probe, so it ends by itself. */
  async #withoutTheLost(failure: ProbeFailure, deadline: number): Promise<HostReading | ProbeFailure> {
    if (failure.kind !== "gpu-lost") return failure;
    const reading = await readOneByOne({
      gpus: this.#roster,
      failure,
      run: (args, timeoutMs) => this.#run(args, MAX_OUTPUT_BYTES, timeoutMs),
      leftMs: () => this.#leftMs(deadline),
    });
    return reading === null ? failure : this.#withOrigins(await this.#withInstances(reading, deadline));
  }

  /** A listing that fails takes nothing from the reading: instances without a UUID are shown, and not granted. */
  async #withInstances(reading: HostReading, deadline: number): Promise<HostReading> {
    if (this.#instances.isDue(reading, this.#clock.now())) {
      const answer = await this.#readListing(deadline).catch((error: unknown) => garbled(error).message);
      this.#instances.learn(reading, answer, this.#clock.now());
    }
    return this.#instances.complete(reading);
  }

  #leftMs(deadline: number): number {
    return this.#closed || this.#abandonedPid !== null ? 0 : deadline - this.#clock.now();
  }

  async #list(deadline: number): Promise<readonly ListedGpu[] | null> {
    const answer = await this.#readListing(deadline).catch((error: unknown) => garbled(error).message);
    return typeof answer === "string" ? null : answer;
  }

  async #readListing(deadline: number): Promise<readonly ListedGpu[] | string> {
    const leftMs = this.#leftMs(deadline);
    if (leftMs < MIN_RUN_MS) return "there was no time for nvidia-smi -L";
    const end = await this.#run(LIST, MAX_LISTING_BYTES, leftMs);
    return end.kind === "exited" ? judgeListing(end) : failureOf(end, this.#program, leftMs).message;
  }

  async #withOrigins(seen: HostReading): Promise<HostReading> {
    const reading = (await this.#processes.sharesHostPids()) === false ? { ...seen, processesHidden: true } : seen;
    const pids = reading.gpus.flatMap(({ processes }) => processes.map(({ pid }) => pid));
    if (pids.length === 0) return reading;
    const origins = await this.#processes.originsOf(pids, this.#clock.now());
    const gpus = reading.gpus.map((gpu) => ({
      ...gpu,
      processes: gpu.processes.map((process) => ({ ...process, origin: origins.get(process.pid) ?? null })),
    }));
    const warnings = origins.size > 0 ? reading.warnings : [...reading.warnings, FOREIGN_PIDS];
    return { ...reading, gpus, warnings };
  }

  async #run(args: readonly string[], maxOutputBytes: number, timeoutMs = this.#timeoutMs): Promise<RunEnd> {
    const env: NodeJS.ProcessEnv = { LC_ALL: "C" };
    for (const name of PASSED_ON) if (process.env[name] !== undefined) env[name] = process.env[name];
    const run = startRun({
      program: this.#program,
      args,
      env,
      timeoutMs,
      maxOutputBytes,
      ...(args[0] === READ[0] ? { sieve: new OutputSieve() } : {}),
      clock: this.#clock,
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
    });
    this.#underWay = run;
    const end = await run.end;
    this.#underWay = null;
    if ("abandoned" in end && end.abandoned) this.#abandon(run);
    return end;
  }

  #abandon(run: Run): void {
    this.#abandonedTotal += 1;
    this.#abandonedPid = run.pid;
    void run.gone.then(() => {
      this.#abandonedPid = null;
    });
  }
}

/** What a reading shows, and what it may only have left out. */
function rosterOf(seen: readonly KnownGpu[], before: readonly KnownGpu[]): readonly KnownGpu[] {
  return [...seen, ...before.filter(({ pciBusId }) => !seen.some((gpu) => gpu.pciBusId === pciBusId))];
}

/** GPUs that the driver counts and does not show are missing, as far as they were known; the count alone decides nothing. */
function miscount({ attachedGpus, reading }: SmiDocument): readonly string[] {
  const shown = reading.gpus.length;
  return attachedGpus === null || attachedGpus === shown
    ? []
    : [`the driver counts ${attachedGpus} GPUs and shows ${shown}`];
}

/** A mistake of ours must not end the polling; the reading is as good as garbled. */
function garbled(error: unknown): ProbeFailure {
  const message = error instanceof Error ? error.message : String(error);
  return { kind: "garbled", message: oneLine(`the output could not be read: ${message}`), exitCode: null };
}
