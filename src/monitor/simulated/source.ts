/**
 * GPUs that are not there, for trying the daemon out and for tests. They behave like a host's: leases are put to use,
 * and what they used goes only a while after they end.
 */

import type { EpochMs } from "../../core/base/time.ts";
import type { Event } from "../../core/host/events.ts";
import type { LiveAllocation } from "../../core/model/allocation.ts";
import type { Topology } from "../../core/model/device.ts";
import type { AllocationId } from "../../core/model/ids.ts";
import type { Observation } from "../../core/model/reading.ts";
import type { Clock } from "../../platform/clock.ts";
import type { GpuSource } from "../../ports/gpu-source.ts";
import type { Committed, Observer } from "../../ports/observer.ts";
import { SimulatedGpu } from "./gpu.ts";
import { SimulatedCutGpu, type SimulatedInstance } from "./instances.ts";
import { parseShape, SHAPES } from "./models.ts";
import { type Random, seededRandom } from "./random.ts";
import { simulatedTopology } from "./topology.ts";
import { workloadOf } from "./workload.ts";

/** Linux's largest process id on 64-bit machines, `/proc/sys/kernel/pid_max`. */
const PID_MAX = 4_194_304;
const FIRST_PID = 2_000;
/** A busy host starts other processes too: pids go up by as many as this. */
const PID_STEP = 40;
const DEFAULT_SEED = 20_260_101;

export interface SimulatedParts {
  /** Such as `h100x8` or `h100x8-mig`. */
  readonly shape: string;
  readonly clock: Clock;
  /** Where chance comes from; by default the same in every run. */
  readonly random?: Random;
}

type Device = SimulatedGpu | SimulatedInstance;

export class SimulatedSource implements GpuSource, Observer {
  readonly name = "simulated";
  readonly abandonedTotal = 0;
  readonly stuck = false;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #gpus: readonly (SimulatedGpu | SimulatedCutGpu)[];
  /** What leases put to use. */
  readonly #devices: ReadonlyMap<string, Device>;
  readonly #topology: Topology;
  readonly #running = new Map<AllocationId, readonly { readonly gpu: Device; readonly pid: number }[]>();
  #pid: number;

  /** @throws RangeError when `shape` is none. */
  constructor({ shape: text, clock, random = seededRandom(DEFAULT_SEED) }: SimulatedParts) {
    const shape = parseShape(text);
    if (shape === null) throw new RangeError(`cannot simulate "${text}": expected ${SHAPES}`);
    this.#clock = clock;
    this.#random = random;
    const gpus = Array.from({ length: shape.count }, (_, index) => new SimulatedGpu(shape, index, random));
    const last = gpus.at(-1);
    const cut = last === undefined || shape.cut === null ? null : new SimulatedCutGpu(last, shape.cut);
    this.#gpus = cut === null ? gpus : [...gpus.slice(0, -1), cut];
    this.#devices = new Map([...gpus, ...(cut?.instances ?? [])].map((device) => [device.uuid, device]));
    this.#topology = simulatedTopology(
      shape,
      gpus.map(({ uuid }) => uuid),
    );
    this.#pid = FIRST_PID + Math.floor(random() * 30_000);
  }

  probe(): Promise<Observation> {
    const now = this.#clock.now();
    const reading = {
      simulated: true,
      driverVersion: "simulated",
      cudaVersion: null,
      gpus: this.#gpus.map((gpu) => gpu.readingAt(now)),
      topology: this.#topology,
      warnings: [],
    };
    return Promise.resolve({ ok: true, startedAt: now, finishedAt: now, reading });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  committed(turn: Committed): void {
    for (const event of turn.events) this.#hear(event, turn);
  }

  #hear(event: Event, { state }: Committed): void {
    switch (event.type) {
      case "granted":
        // An offer is not put to use before its client has it.
        this.#start(state.allocations.get(event.id), event.lease.grantedAt);
        break;
      case "claimed":
      case "renewed":
        this.#start(state.allocations.get(event.id), event.at);
        break;
      case "ended":
        for (const { gpu, pid } of this.#running.get(event.id) ?? []) gpu.end(pid, event.outcome.at);
        this.#running.delete(event.id);
        break;
      case "resumed":
        // What ran before a restart of the daemon runs on.
        for (const allocation of state.allocations.values()) {
          if (allocation.status === "leased") this.#start(allocation, allocation.lease.grantedAt);
        }
        break;
      default:
        break;
    }
  }

  /** Puts a lease to use, once. Nothing happens for one that is over by the end of the turn, or not claimed yet. */
  #start(allocation: LiveAllocation | undefined, startsAt: EpochMs): void {
    if (allocation?.status !== "leased" || this.#running.has(allocation.request.id)) return;
    const { request, lease } = allocation;
    const gpus = lease.gpus.map(({ uuid }) => this.#devices.get(uuid)).filter((gpu) => gpu !== undefined);
    const running = gpus.map((gpu) => ({ gpu, pid: this.#nextPid() }));
    for (const { gpu, pid } of running) {
      gpu.begin(workloadOf(request, { totalMib: gpu.memoryTotalMib, pid }, startsAt, this.#random));
    }
    this.#running.set(request.id, running);
  }

  #nextPid(): number {
    this.#pid += 1 + Math.floor(this.#random() * PID_STEP);
    if (this.#pid > PID_MAX) this.#pid = FIRST_PID;
    return this.#pid;
  }
}
