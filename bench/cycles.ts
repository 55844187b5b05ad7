/** Durable allocate + release over HTTP, beside a bare node:http server that answers the same bytes. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { median } from "./measure.ts";
import { cpuMs, residentMib, type Served, serveBare, serveDaemon, untilReady } from "./processes.ts";
import { RawConnection } from "./raw-client.ts";
import { type Report, row } from "./report.ts";
import type { Tree } from "./trees.ts";

export interface CyclesPlan {
  readonly rounds: number;
  readonly seconds: number;
  readonly gpus: number;
  readonly connections: readonly number[];
  readonly inMemory: boolean;
}

interface LoadFigure {
  readonly requestsPerSecond: number;
  /** Not answered with 200. */
  readonly refused: number;
  readonly all: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuUs: number;
}

/** Requests that both are served before anything counts: past the just-in-time compiler. */
const WARM_UP_SECONDS = 3;

const ATTEMPTS = 5;

export async function measureCycles(report: Report, trees: readonly Tree[], plan: CyclesPlan): Promise<void> {
  const daemons: Served[] = [];
  for (const tree of trees) daemons.push(await serveDaemon(tree, plan));
  for (const daemon of daemons) await untilReady(daemon);
  const bare = await serveBare(await answersOf(daemons[0] as Served));
  const all = [bare, ...daemons];
  for (const server of all) await load(server, 8, WARM_UP_SECONDS);
  for (const connections of plan.connections) {
    const figures = new Map<Served, LoadFigure[]>(all.map((server) => [server, []]));
    for (let round = 0; round < plan.rounds; round++) {
      for (const server of all) figures.get(server)?.push(await wholeLoad(server, connections, plan.seconds));
    }
    for (const daemon of daemons) {
      const [own, limit] = [figures.get(daemon) ?? [], figures.get(bare) ?? []];
      report.say(cyclesRow(daemon, connections, own, limit));
      const key = `${plan.inMemory ? "memory" : "cycles"} ${connections}`;
      report.note(`${key} ratio`, daemon.name, ratioOf("requestsPerSecond", own, limit));
      report.note(`${key} cpu`, daemon.name, ratioOf("cpuUs", own, limit));
    }
  }
  for (const server of all) await server.stop();
}

function cyclesRow(
  daemon: Served,
  connections: number,
  ours: readonly LoadFigure[],
  bare: readonly LoadFigure[],
): string {
  const of = (key: keyof LoadFigure) => median(ours.map((figure) => figure[key]));
  const ratio = (key: keyof LoadFigure) => ratioOf(key, ours, bare);
  return row(
    connections,
    daemon.name,
    of("requestsPerSecond").toFixed(0),
    ratio("requestsPerSecond").toFixed(2),
    `${of("cpuUs").toFixed(0)} us`,
    ratio("cpuUs").toFixed(1),
    `${of("p50Ms").toFixed(2)} ms`,
    `${of("p99Ms").toFixed(2)} ms`,
  );
}

/** Round by round: what slows the machine down slows both down. */
function ratioOf(key: keyof LoadFigure, ours: readonly LoadFigure[], bare: readonly LoadFigure[]): number {
  return median(ours.map((figure, i) => figure[key] / (bare[i]?.[key] ?? Number.NaN)));
}

async function answersOf(daemon: Served): Promise<Record<string, string>> {
  const connection = new RawConnection(daemon.port, (error) => {
    throw error;
  });
  const ask = async (path: string, body: object) => (await connection.ask("POST", path, body)).body.toString();
  const granted = await ask("/gpu/allocate", { service_name: "bench", workload_type: "inference" });
  const released = await ask("/gpu/release", { allocation_id: JSON.parse(granted).id });
  connection.end();
  return { "/gpu/allocate": granted, "/gpu/release": released };
}

/** A load in which everything was granted. On a machine that is too busy a reading may come late, and all wait for it. */
async function wholeLoad(server: Served, connections: number, seconds: number): Promise<LoadFigure> {
  for (let i = 0; i < ATTEMPTS; i++) {
    const figure = await load(server, connections, seconds);
    if (figure.refused === 0) return figure;
    console.error(`${server.name} did not grant ${figure.refused} requests of ${figure.all}: once more`);
  }
  throw new Error(`${server.name} refused requests of the bench, ${ATTEMPTS} times`);
}

/** One load of so many connections, each with one request under way, in a process of its own. */
async function load(server: Served, connections: number, seconds: number): Promise<LoadFigure> {
  const before = cpuMs(server.pid);
  const program = fileURLToPath(new URL("load-client.ts", import.meta.url));
  const client = spawn(process.execPath, [program, `${server.port}`, `${connections}`, `${seconds}`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  client.stdout.on("data", (chunk) => {
    output += chunk;
  });
  await new Promise<void>((resolve, reject) => {
    client.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`the load client exited with ${code}`))));
  });
  const figure = JSON.parse(output);
  return { ...figure, cpuUs: ((cpuMs(server.pid) - before) * 1_000) / figure.all };
}

/** Memory after so many cycles, in MiB. */
export async function memoryAfter(tree: Tree, cycles: number): Promise<number> {
  const daemon = await serveDaemon(tree, { gpus: 64 });
  await untilReady(daemon);
  const connection = new RawConnection(daemon.port, (error) => {
    throw error;
  });
  const others = Array.from({ length: 15 }, () => new RawConnection(daemon.port, () => undefined));
  let left = cycles;
  const work = async (one: RawConnection) => {
    while (left-- > 0) {
      const granted = await one.ask("POST", "/gpu/allocate", { service_name: "bench" });
      const { id } = JSON.parse(granted.body.toString());
      await one.ask("POST", "/gpu/release", { allocation_id: id });
    }
  };
  await Promise.all([connection, ...others].map(work));
  const mib = residentMib(daemon.pid);
  for (const one of [connection, ...others]) one.end();
  await daemon.stop();
  return mib;
}
