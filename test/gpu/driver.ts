/** What `nvidia-smi` itself says, read here once more and apart from the daemon's parser. */
import { spawnSync } from "node:child_process";

/** A figure; `null`: the driver does not tell it. */
type Figure = number | null;

export interface DriverGpu {
  readonly index: Figure;
  readonly uuid: string;
  readonly name: string;
  readonly memoryTotalMib: Figure;
  readonly memoryUsedMib: Figure;
  readonly utilizationPercent: Figure;
  readonly temperatureC: Figure;
  readonly powerDrawW: Figure;
  readonly smClockMhz: Figure;
}

const FIELDS = [
  "index",
  "uuid",
  "name",
  "memory.total",
  "memory.used",
  "utilization.gpu",
  "temperature.gpu",
  "power.draw",
  "clocks.sm",
];
const TIMEOUT_MS = 30_000;

export class Driver {
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  /** @throws Error when it cannot be run. */
  run(...args: string[]): string {
    const { stdout, error } = spawnSync(this.#program, args, {
      encoding: "utf8",
      timeout: TIMEOUT_MS,
      maxBuffer: 2 ** 28,
    });
    if (error !== undefined) throw error;
    return stdout;
  }

  document(): string {
    return this.run("-q", "-x");
  }

  gpus(): readonly DriverGpu[] {
    const table = this.run(`--query-gpu=${FIELDS.join(",")}`, "--format=csv,noheader,nounits");
    // Stand-ins know no tables.
    return /^\s*\d+,/.test(table) ? table.trim().split("\n").map(ofRow) : ofDocument(this.document());
  }
}

function ofRow(row: string): DriverGpu {
  const [index, uuid = "", name = "", total, used, utilization, temperature, power, clock] = row.split(/,\s*/);
  return {
    index: figure(index),
    uuid,
    name,
    memoryTotalMib: figure(total),
    memoryUsedMib: figure(used),
    utilizationPercent: figure(utilization),
    temperatureC: figure(temperature),
    powerDrawW: figure(power),
    smClockMhz: figure(clock),
  };
}

function ofDocument(document: string): DriverGpu[] {
  return [...document.matchAll(/<gpu id="[^"]*">[\s\S]*?<\/gpu>/g)].map(([gpu], index) => {
    const word = (...path: string[]) => {
      const inside = path.slice(0, -1).reduce((text, name) => between(text, name), gpu);
      return between(inside, path.at(-1) as string);
    };
    return {
      index,
      uuid: word("uuid"),
      name: word("product_name"),
      memoryTotalMib: figure(word("fb_memory_usage", "total")),
      memoryUsedMib: figure(word("fb_memory_usage", "used")),
      utilizationPercent: figure(word("utilization", "gpu_util")),
      temperatureC: figure(word("temperature", "gpu_temp")),
      powerDrawW: figure(word("power_draw") || word("instant_power_draw")),
      smClockMhz: figure(word("clocks", "sm_clock")),
    };
  });
}

function between(text: string, name: string): string {
  return new RegExp(`<${name}>([\\s\\S]*?)</${name}>`).exec(text)?.[1]?.trim() ?? "";
}

function figure(text: string | undefined): Figure {
  const number = /^-?\d+(?:\.\d+)?/.exec(text ?? "")?.[0];
  return number === undefined ? null : Number(number);
}
