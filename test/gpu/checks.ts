/** What is checked on a host with a GPU: each by itself, in this order. */
import type { GpuDaemon, GpuNow } from "./daemon.ts";
import type { Driver, DriverGpu } from "./driver.ts";
import type { Load, Loads } from "./loads.ts";

export interface CheckParts {
  readonly daemon: GpuDaemon;
  readonly driver: Driver;
  /** Text: why no program can use a GPU here. */
  readonly loads: Loads | string;
  /** Keeps what the driver shows now, under a name. */
  readonly capture: (name: string) => void;
}

export interface Result {
  readonly name: string;
  readonly verdict: "ok" | "failed" | "skipped";
  /** What was seen, or why it was skipped or failed. */
  readonly seen: readonly string[];
  readonly seconds: number;
}

/** Why a check is left out on this host. */
class Skipped extends Error {}

interface Check {
  readonly name: string;
  readonly run: (parts: CheckParts, gpu: GpuNow) => Promise<readonly string[]>;
}

const HELD_MIB = 1_024;
/** Of memory between two looks: the driver's own comes and goes. */
const MEMORY_SLACK_MIB = 64;
const TEMPERATURE_SLACK_C = 6;
const POWER_SLACK = 0.25;
const POWER_SLACK_W = 30;
const WITHIN_READINGS = 2;
const SOON_MS = 20_000;
const WORK_S = 8;
const LOADED_PERCENT = 50;
const READINGS_FOR_COST = 5;

export const CHECKS: readonly Check[] = [
  { name: "every figure of the status is nvidia-smi's own", run: figures },
  { name: "the topology", run: topology },
  { name: "the kernel's log", run: kernelLog },
  { name: "what a reading costs", run: cost },
  { name: "a process of no lease: occupied within two readings, gone within two", run: foreignUse },
  { name: "a lease knows its process by the pid that it names", run: leaseByPid },
  { name: "the clocks of a GPU that works", run: underLoad },
  { name: "a program outlives its lease and is killed: reclaiming, then free", run: killed },
  { name: "two shared leases on one GPU", run: shared },
];

/** Runs all checks, and never throws: what goes wrong in one is its result. */
export async function checkHost(parts: CheckParts, say: (result: Result) => void): Promise<readonly Result[]> {
  const results: Result[] = [];
  for (const { name, run } of CHECKS) {
    const begun = performance.now();
    let verdict: Result["verdict"] = "ok";
    const seen = await freeGpu(parts)
      .then((gpu) => run(parts, gpu))
      .catch((error: unknown) => {
        verdict = error instanceof Skipped ? "skipped" : "failed";
        return [error instanceof Error ? error.message : String(error)];
      });
    await giveBack(parts);
    const result = { name, verdict, seen, seconds: (performance.now() - begun) / 1_000 };
    results.push(result);
    say(result);
  }
  return results;
}

async function freeGpu({ daemon }: CheckParts): Promise<GpuNow> {
  const { gpus, monitor } = await daemon.status();
  const free = gpus.find(({ state }) => state === "free");
  if (free !== undefined) return free;
  const states = gpus.map(({ id, state, reason }) => `${id}: ${state} (${reason ?? "no reason"})`);
  throw new Error(`no GPU is free: ${monitor.failure?.message ?? states.join("; ")}`);
}

/** A check that failed half-way leaves nothing to the next. */
async function giveBack({ daemon }: CheckParts): Promise<void> {
  const ours: readonly string[] = ["leased", "reclaiming", ...(running.size > 0 ? ["occupied"] : [])];
  for (const load of running) await load.kill();
  running.clear();
  await daemon.call("POST", "/gpu/release", { service_name: SERVICE });
  for (const { uuid, state } of (await daemon.status()).gpus) {
    if (ours.includes(state)) await daemon.until(uuid, (gpu) => gpu.state === "free", SOON_MS).catch(() => undefined);
  }
}

const SERVICE = "gpu-check";
const running = new Set<Load>();

async function startLoad({ loads }: CheckParts, { uuid }: GpuNow): Promise<Load> {
  if (typeof loads === "string") throw new Skipped(loads);
  const load = await loads(uuid);
  running.add(load);
  return load;
}

async function kill(load: Load): Promise<void> {
  running.delete(load);
  await load.kill();
}

async function lease({ daemon }: CheckParts, { uuid }: GpuNow, over: object): Promise<string> {
  const ask = { service_name: SERVICE, preferred_gpus: [uuid], max_duration: "5m", ...over };
  const { status, body } = await daemon.call("POST", "/gpu/allocate", ask, { prefer: "wait=30" });
  if (status !== 200) throw new Error(`the lease was not granted: ${status} ${body.reason ?? body.detail}`);
  if (body.gpu_uuids[0] !== uuid) throw new Error(`the lease is of ${body.gpu_uuids}, not of ${uuid}`);
  return body.id;
}

async function figures({ daemon, driver }: CheckParts): Promise<string[]> {
  const own = driver.gpus();
  const { gpus, driver_version: version } = await daemon.status();
  const wrong = own.flatMap((one) =>
    differences(
      one,
      gpus.find(({ uuid }) => uuid === one.uuid),
    ),
  );
  if (gpus.length !== own.length) wrong.push(`nvidia-smi shows ${own.length} GPUs, the status ${gpus.length}`);
  if (wrong.length > 0) throw new Error(wrong.join("; "));
  return [`driver ${version ?? "?"}`, ...gpus.map(inWords)];
}

function differences(own: DriverGpu, shown: GpuNow | undefined): string[] {
  if (shown === undefined) return [`${own.uuid} is not in the status`];
  const powerSlack = Math.max(POWER_SLACK_W, (own.powerDrawW ?? 0) * POWER_SLACK);
  const pairs: readonly (readonly [what: string, own: number | null, shown: number | null, slack: number])[] = [
    ["index", own.index, shown.id, 0],
    ["memory_total", own.memoryTotalMib, shown.memory_total, 0],
    ["memory_used", own.memoryUsedMib, shown.memory_used, MEMORY_SLACK_MIB],
    ["temperature", own.temperatureC, shown.temperature, TEMPERATURE_SLACK_C],
    ["power_draw", own.powerDrawW, shown.power_draw, powerSlack],
    // How busy it is changes from look to look: only that both tell it, or neither.
    ["utilization", own.utilizationPercent, shown.utilization, 100],
  ];
  const named = own.name === shown.name ? [] : [`${own.uuid} is ${own.name}, shown as ${shown.name}`];
  const wrong = pairs.filter(([, one, other, slack]) =>
    one === null || other === null ? one !== other : Math.abs(one - other) > slack,
  );
  return [
    ...named,
    ...wrong.map(([what, one, other]) => `${what} of ${own.uuid}: nvidia-smi ${one}, the status ${other}`),
  ];
}

function inWords({ id, name, memory_used, memory_total, utilization, temperature, power_draw }: GpuNow): string {
  return `GPU ${id} ${name}: ${memory_used} of ${memory_total} MiB, ${utilization} %, ${temperature} C, ${power_draw} W`;
}

async function topology({ daemon, driver }: CheckParts): Promise<string[]> {
  if (!/^\s*(?:\S*m)?\s*GPU0/m.test(driver.run("topo", "-m"))) throw new Skipped("nvidia-smi topo -m shows no matrix");
  const { gpus } = await daemon.status();
  const unknown = gpus.filter(({ links }) => links === null);
  if (unknown.length > 0) throw new Error(`no links are shown of ${unknown.map(({ id }) => id).join(", ")}`);
  return gpus.map(({ id, links }) => `GPU ${id}: ${Object.values(links ?? {}).join(", ") || "alone"}`);
}

async function kernelLog({ daemon }: CheckParts): Promise<string[]> {
  const { kernel_log: log } = (await daemon.status()).monitor;
  if (log === null) throw new Skipped("it is not watched");
  if (!log.readable) throw new Skipped(`it cannot be read: ${log.problem}`);
  return ["it is read"];
}

async function cost({ daemon, driver }: CheckParts): Promise<string[]> {
  const tookMs: number[] = [];
  for (let i = 0; i < READINGS_FOR_COST; i++) {
    const begun = performance.now();
    driver.document();
    tookMs.push(performance.now() - begun);
  }
  const [least = 0] = tookMs.toSorted((a, b) => a - b);
  const median = tookMs.toSorted((a, b) => a - b)[Math.floor(tookMs.length / 2)] ?? 0;
  const own = await daemon.readingCostMs(READINGS_FOR_COST);
  return [
    `nvidia-smi -q -x takes ${median.toFixed(0)} ms (median of ${tookMs.length}, the least ${least.toFixed(0)})`,
    `the daemon itself takes ${own.toFixed(0)} ms of processor time a second with a reading in each, and being asked ten times`,
  ];
}

async function foreignUse(parts: CheckParts, gpu: GpuNow): Promise<string[]> {
  const load = await startLoad(parts, gpu);
  await load.hold(HELD_MIB);
  const came = await parts.daemon.until(gpu.uuid, ({ state }) => state === "occupied", SOON_MS);
  parts.capture("occupied");
  await kill(load);
  const went = await parts.daemon.until(gpu.uuid, ({ state }) => state === "free", SOON_MS);
  const seen = [`occupied after ${came} readings, free after ${went}`];
  if (came > WITHIN_READINGS || went > WITHIN_READINGS) throw new Error(seen.join());
  return seen;
}

async function leaseByPid(parts: CheckParts, gpu: GpuNow): Promise<string[]> {
  const load = await startLoad(parts, gpu);
  const id = await lease(parts, gpu, { workload_data: { pid: load.pid } });
  await load.hold(HELD_MIB);
  const isKnown = ({ processes }: GpuNow) => processes.some(({ allocation_id: owner }) => owner === id);
  const readings = await parts.daemon.until(gpu.uuid, isKnown, SOON_MS);
  return [`its process is known as the lease's after ${readings} readings`];
}

async function underLoad(parts: CheckParts, gpu: GpuNow): Promise<string[]> {
  const load = await startLoad(parts, gpu);
  await lease(parts, gpu, { workload_data: { pid: load.pid } });
  const [idle] = ofGpu(parts, gpu);
  const working = load.work(WORK_S);
  const isBusy = ({ utilization }: GpuNow) => (utilization ?? 0) >= LOADED_PERCENT;
  await parts.daemon.until(gpu.uuid, isBusy, WORK_S * 1_000);
  const [busy, wrong] = ofGpu(parts, gpu, await parts.daemon.gpu(gpu.uuid));
  parts.capture("busy");
  const { health, state } = await parts.daemon.gpu(gpu.uuid);
  await working;
  if (state !== "leased") throw new Error(`a leased GPU that works is shown as ${state}`);
  if (wrong.length > 0) throw new Error(wrong.join("; "));
  return [
    `idle: ${idle.smClockMhz} MHz, ${idle.temperatureC} C, ${idle.powerDrawW} W`,
    `at work: ${busy.smClockMhz} MHz, ${busy.temperatureC} C, ${busy.powerDrawW} W, slowed down: ${health.slowdown}`,
  ];
}

/** A GPU as the driver shows it, and where `shown` differs but for figures that move under load. */
function ofGpu({ driver }: CheckParts, { uuid }: GpuNow, shown?: GpuNow): readonly [DriverGpu, readonly string[]] {
  const own = driver.gpus().find((one) => one.uuid === uuid);
  if (own === undefined) throw new Error(`nvidia-smi does not show ${uuid}`);
  const moving = /^(?:temperature|power_draw|memory_used)/;
  return [own, shown === undefined ? [] : differences(own, shown).filter((words) => !moving.test(words))];
}

async function killed(parts: CheckParts, gpu: GpuNow): Promise<string[]> {
  const { daemon } = parts;
  const load = await startLoad(parts, gpu);
  const id = await lease(parts, gpu, { workload_data: { pid: load.pid } });
  await load.hold(HELD_MIB);
  await daemon.until(gpu.uuid, ({ processes }) => processes.length > 0, SOON_MS);
  await daemon.call("DELETE", `/gpu/allocations/${id}`);
  await daemon.until(gpu.uuid, ({ state }) => state === "reclaiming", SOON_MS);
  const begun = performance.now();
  await kill(load);
  const readings = await daemon.until(gpu.uuid, ({ state }) => state === "free", SOON_MS);
  const seconds = ((performance.now() - begun) / 1_000).toFixed(1);
  return [`reclaiming while its program was there; free ${readings} readings and ${seconds} s after that was killed`];
}

async function shared(parts: CheckParts, gpu: GpuNow): Promise<string[]> {
  const loads = [await startLoad(parts, gpu), await startLoad(parts, gpu)];
  const ids: string[] = [];
  for (const load of loads) {
    const data = { workload_data: { pid: load.pid }, sharing: "shared", min_memory_mb: 2 * HELD_MIB };
    ids.push(await lease(parts, gpu, data));
    await load.hold(HELD_MIB);
  }
  const areKnown = ({ processes }: GpuNow) =>
    ids.every((id) => processes.some(({ allocation_id: owner }) => owner === id));
  await parts.daemon.until(gpu.uuid, areKnown, SOON_MS);
  parts.capture("shared");
  return ["both were granted it, and each knows its own process"];
}
