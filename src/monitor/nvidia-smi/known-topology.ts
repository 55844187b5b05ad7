import type { Topology } from "../../core/model/device.ts";
import type { GpuUuid } from "../../core/model/ids.ts";
import type { GpuReading, HostReading } from "../../core/model/reading.ts";
import { oneLine } from "./text.ts";
import type { SmiTopology } from "./topology.ts";

/** What is soldered and plugged does not change while a host runs; an NVLink may fail. */
const RECHECK_MS = 60 * 60_000;
/** After an answer that could not be used: some hosts, such as virtual ones, never give one. */
const RETRY_MS = 10 * 60_000;
/** Other GPUs or another driver make the question new. GPUs that come and go must not double the runs. */
const SHORTEST_PAUSE_MS = 60_000;

/**
 * What is known of how the GPUs are connected, and whether it is time to ask.
 *
 * The driver's answer goes by indices. It is taken for the GPUs of the reading just before it, and dropped when the
 * reading just after it shows others, or the same in another order.
 */
export class KnownTopology {
  #topology: Topology | null = null;
  /** Where its GPUs sat: one that has moved is connected in another way. */
  #addresses: ReadonlyMap<GpuUuid, string | null> = new Map();
  #failure: string | null = null;
  /** The line-up of the latest answer. */
  #askedOf: string | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;
  /** The reading just before an answer, until another has come. */
  #before: HostReading | null = null;

  get wasAsked(): boolean {
    return this.#askedAt !== Number.NEGATIVE_INFINITY;
  }

  isDue(reading: HostReading, now: number): boolean {
    return now - this.#askedAt >= this.#pauseFor(reading);
  }

  #pauseFor(reading: HostReading): number {
    if (lineUpOf(reading) !== this.#askedOf) return SHORTEST_PAUSE_MS;
    return this.#failure === null ? RECHECK_MS : RETRY_MS;
  }

  /**
   * Takes in an answer to the question that was asked after `reading`. What was known before outlives a failure: a GPU
   * that is lost keeps the driver from answering, and leaves the others where they are.
   *
   * @param answer the topology, or why there is none.
   */
  learn(reading: HostReading, answer: SmiTopology | string, now: number): void {
    this.#askedOf = lineUpOf(reading);
    this.#askedAt = now;
    this.#failure = typeof answer === "string" ? answer : misfit(reading, answer);
    if (typeof answer === "string" || this.#failure !== null) return;
    this.#topology = {
      gpus: answer.gpus.map((gpu, index) => ({ uuid: reading.gpus[index]?.uuid as GpuUuid, ...gpu })),
      links: answer.links,
    };
    this.#addresses = new Map(reading.gpus.map(({ uuid, pciBusId }) => [uuid, pciBusId]));
    this.#before = reading;
  }

  /** `reading` with the topology that is known to hold for it, and a warning if the latest answer was of no use. */
  complete(reading: HostReading): HostReading {
    if (this.#before !== null && this.#before !== reading) {
      if (lineUpOf(reading) !== this.#askedOf) this.#forget();
      this.#before = null;
    }
    if (reading.gpus.some((gpu) => this.#hasMoved(gpu))) this.#forget();
    const isOfUse = this.#failure === null || lineUpOf(reading) !== this.#askedOf;
    const warnings = isOfUse ? [] : [oneLine(`the GPUs' topology: ${this.#failure}`)];
    return { ...reading, topology: this.#topology, warnings: [...reading.warnings, ...warnings] };
  }

  #hasMoved({ uuid, pciBusId }: GpuReading): boolean {
    const address = this.#addresses.get(uuid);
    return address !== undefined && address !== pciBusId;
  }

  #forget(): void {
    this.#topology = null;
    this.#addresses = new Map();
    this.#askedOf = null;
  }
}

function misfit({ gpus }: HostReading, topology: SmiTopology): string | null {
  if (topology.gpus.length === gpus.length) return null;
  return `nvidia-smi topo -m shows ${topology.gpus.length} GPUs, nvidia-smi -q shows ${gpus.length}`;
}

/** The GPUs by index, and the driver: what the answer depends on. */
function lineUpOf({ driverVersion, gpus }: HostReading): string {
  return JSON.stringify([driverVersion, ...gpus.map(({ uuid, pciBusId }) => [uuid, pciBusId])]);
}
