/** The verbs that look: GPUs, queue, leases, and one of each. */
import type { Allocation, Gpu, List } from "../../client/types.ts";
import { visible } from "../../platform/printable.ts";
import { limitOf } from "../ask.ts";
import { type CommonOptions, type Context, contextOf, shown } from "../context.ts";
import { eitherNamed, gpusOf } from "../names.ts";
import { ANONYMOUS, known } from "../own.ts";
import { type Column, cut, table } from "../table.ts";
import type { Color, Terminal } from "../terminal.ts";
import { etaText, gibText, leftText, modelText, plural, sinceText } from "../words.ts";

type Device = Gpu | Gpu["mig_devices"][number];
type QueuedEntry = List["queue"][number];

interface GpuRow {
  readonly index: string;
  readonly gpu: Gpu;
  readonly device: Device;
  readonly isInstance: boolean;
  /** The earliest end of what is held; `null`: none is known. */
  readonly endsAt: string | null;
}

const STATE_COLORS: Readonly<Record<string, Color>> = {
  free: "green",
  leased: "blue",
  reclaiming: "yellow",
  recovering: "yellow",
  occupied: "yellow",
  cordoned: "yellow",
  mig: "blue",
};

const percent = (figure: number | null) => (figure === null ? "?" : `${Math.round(figure)}%`);

export function gpuColumns(now: number): readonly Column<GpuRow>[] {
  return [
    { head: "GPU", cell: ({ index }) => index },
    {
      head: "MODEL",
      cell: ({ gpu, device, isInstance }) =>
        isInstance ? `  ${(device as Gpu["mig_devices"][number]).profile ?? "MIG"}` : modelText(gpu.name),
      shrinksTo: 8,
      goes: 3,
    },
    { head: "STATE", cell: ({ device }) => device.state, color: ({ device }) => STATE_COLORS[device.state] ?? "red" },
    { head: "HOLDER", cell: ({ device }) => holdersOf(device), shrinksTo: 8 },
    {
      head: "SINCE",
      cell: ({ device }) => sinceText(device.holders[0]?.since ?? device.since, now),
      align: "right",
      goes: 5,
    },
    { head: "LEFT", cell: ({ endsAt }) => leftText(endsAt, now), align: "right", goes: 6 },
    {
      head: "MEMORY",
      cell: ({ device }) => `${gibText(device.memory_used)}/${gibText(device.memory_total)}`,
      align: "right",
      goes: 7,
    },
    {
      head: "UTIL",
      cell: ({ gpu, isInstance }) => (isInstance ? null : percent(gpu.utilization)),
      align: "right",
      goes: 4,
    },
    {
      head: "TEMP",
      cell: ({ gpu, isInstance }) =>
        isInstance || gpu.temperature === null ? null : `${Math.round(gpu.temperature)}C`,
      align: "right",
      goes: 2,
    },
    {
      head: "POWER",
      cell: ({ gpu, isInstance }) => (isInstance || gpu.power_draw === null ? null : `${Math.round(gpu.power_draw)}W`),
      align: "right",
      goes: 1,
    },
    {
      head: "WHY NOT FREE",
      cell: ({ device }) => whyNotFree(device, now) ?? "",
      shrinksTo: 12,
      goes: 8,
    },
  ];
}

function holdersOf({ holders }: Device): string | null {
  return holders.length === 0 ? null : holders.map(ownedText).join(", ");
}

function byText(principal: string): string {
  return principal === ANONYMOUS ? "" : ` by ${principal}`;
}

interface Owned {
  readonly service_name: string;
  readonly principal?: string | undefined;
}

/** The service, and whose it is where that is told and somebody's. */
function ownedText({ service_name: service, principal }: Owned): string {
  return principal === undefined || principal === ANONYMOUS ? service : `${service} (${principal})`;
}

/** Of what is leased the holder says all, but for what is wrong. */
function whyNotFree({ state, holders, reason, ailment }: Device, now: number): string | null {
  if (state !== "leased") return reason;
  const idle = holders.find(({ idle_since }) => idle_since !== null);
  if (idle !== undefined) return `idle for ${sinceText(idle.idle_since, now)}`;
  return ailment === null ? null : `${ailment.state}: ${ailment.reason}`;
}

export function gpuRows({ gpus, allocations }: List): GpuRow[] {
  const ends = new Map(allocations.map(({ id, expires_at }) => [id, expires_at ?? null]));
  const endOf = ({ holders }: Device) =>
    holders
      .map(({ allocation_id }) => ends.get(allocation_id) ?? null)
      .filter((end) => end !== null)
      .sort()[0] ?? null;
  return gpus.flatMap((gpu) => [
    { index: gpu.id === null ? "-" : String(gpu.id), gpu, device: gpu, isInstance: false, endsAt: endOf(gpu) },
    ...gpu.mig_devices.map((device) => {
      const index = `${gpu.id}:${device.gpu_instance_id}`;
      return { index, gpu, device, isInstance: true, endsAt: endOf(device) };
    }),
  ]);
}

export async function status(options: CommonOptions): Promise<void> {
  const context = await contextOf(options);
  await shown(context, options.watch, async () => {
    const list = await context.client.list();
    if (context.terminal.json)
      return [JSON.stringify({ gpus: list.gpus, simulated: list.simulated, drain: list.drain })];
    return statusLines(list, context, Date.now());
  });
}

async function statusLines(list: List, { client, terminal }: Context, now: number): Promise<string[]> {
  if (list.gpus.length === 0) {
    const { monitor } = await client.status();
    const why = monitor.failure === null ? "no GPU has been read yet" : monitor.failure.message;
    return [visible(`no GPUs: ${why}`)];
  }
  return [
    ...table(gpuRows(list), gpuColumns(now), terminal),
    ...summary(list, now).map((line) => (terminal.isTerminal ? cut(line, terminal.width) : line)),
  ];
}

export function summary({ gpus, allocations, queue, simulated, drain }: List, now: number): string[] {
  const free = gpus.filter(({ state }) => state === "free").length;
  const counts = `${free} of ${gpus.length} free, ${plural(allocations.length, "lease")}, ${queue.length} waiting`;
  return [
    simulated ? `${counts}; SIMULATED GPUs` : counts,
    ...(drain === null
      ? []
      : [visible(`the host is drained${byText(drain.by)} for ${sinceText(drain.since, now)}: ${drain.reason}`)]),
  ];
}

export function queueColumns(now: number): readonly Column<QueuedEntry>[] {
  return [
    { head: "POS", cell: ({ position }) => String(position), align: "right" },
    { head: "ID", cell: ({ id }) => id },
    { head: "SERVICE", cell: ownedText, shrinksTo: 8, goes: 1 },
    { head: "GPUS", cell: ({ required_gpus }) => String(required_gpus), align: "right" },
    { head: "MEM", cell: ({ min_memory_mb }) => gibText(min_memory_mb), align: "right", goes: 2 },
    { head: "PRIO", cell: ({ priority }) => String(priority), align: "right", goes: 3 },
    { head: "WAITED", cell: ({ submitted_at }) => sinceText(submitted_at, now), align: "right", goes: 4 },
    { head: "ETA", cell: ({ eta }) => etaText(eta, now)?.replace("about ", "") ?? "?", goes: 6 },
    { head: "WAITING FOR", cell: ({ reason }) => reason.replace(/^waiting for /, ""), shrinksTo: 12, goes: 5 },
  ];
}

export function leaseColumns(now: number): readonly Column<Allocation>[] {
  return [
    { head: "ID", cell: ({ id }) => id },
    { head: "SERVICE", cell: ownedText, shrinksTo: 8, goes: 1 },
    { head: "GPUS", cell: (one) => gpusOf(one) },
    { head: "STATE", cell: (one) => stateOf(one), color: ({ notice }) => (notice === undefined ? null : "yellow") },
    { head: "PRIO", cell: ({ priority }) => String(priority), align: "right", goes: 2 },
    { head: "HELD", cell: ({ allocated_at }) => sinceText(allocated_at, now), align: "right", goes: 4 },
    { head: "LEFT", cell: ({ expires_at }) => leftText(expires_at, now), align: "right" },
    { head: "IDLE", cell: ({ idle_since }) => sinceText(idle_since, now), align: "right", goes: 3 },
  ];
}

function stateOf({ status, notice }: Allocation): string {
  return notice === undefined ? status : notice.reason === "drained" ? "draining" : "preempting";
}

export async function queue(options: CommonOptions): Promise<void> {
  const context = await contextOf(options);
  await shown(context, options.watch, async () => {
    const { queue: waiting } = await context.client.list();
    if (context.terminal.json) return waiting.map((one) => JSON.stringify(one));
    if (waiting.length === 0) return ["nothing waits"];
    return table(waiting, queueColumns(Date.now()), context.terminal);
  });
}

export async function leases(options: CommonOptions): Promise<void> {
  const context = await contextOf(options);
  await shown(context, options.watch, async () => {
    const { allocations } = await context.client.list();
    if (context.terminal.json) return allocations.map((one) => JSON.stringify(one));
    if (allocations.length === 0) return ["nothing is leased"];
    return table(allocations, leaseColumns(Date.now()), context.terminal);
  });
}

interface HistoryOptions extends CommonOptions {
  readonly limit: string;
  readonly mine?: boolean;
}

export async function history(options: HistoryOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  if (options.mine === true) await known(client);
  const mine = options.mine === true ? { mine: "true" as const } : {};
  const { allocations } = await client.records({ status: "ended", limit: limitOf(options.limit), ...mine });
  const now = Date.now();
  if (terminal.json) for (const one of allocations) terminal.data(one);
  else if (allocations.length === 0) terminal.line("nothing has ended yet");
  else for (const line of table(allocations, historyColumns(now), terminal)) terminal.line(line);
}

function historyColumns(now: number): readonly Column<Allocation>[] {
  return [
    { head: "ID", cell: ({ id }) => id },
    { head: "SERVICE", cell: ownedText, shrinksTo: 8, goes: 1 },
    { head: "GPUS", cell: (one) => (one.devices === undefined ? String(one.required_gpus) : gpusOf(one)) },
    {
      head: "HELD",
      cell: ({ allocated_at, ended_at }) =>
        allocated_at === undefined ? null : sinceText(allocated_at, Date.parse(ended_at ?? "")),
      align: "right",
    },
    { head: "AGO", cell: ({ ended_at }) => sinceText(ended_at, now), align: "right" },
    { head: "END", cell: ({ end_reason }) => end_reason ?? null },
    { head: "DETAIL", cell: ({ end_detail }) => end_detail ?? "", shrinksTo: 10, goes: 2 },
  ];
}

/** A GPU's name is tried first when it looks like one. */
export async function show(name: string, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const list = await client.list();
  const named = await eitherNamed(name, list, client);
  if ("gpu" in named) {
    const { gpu, uuid } = named;
    const device = uuid === gpu.uuid ? gpu : gpu.mig_devices.find((one) => one.uuid === uuid);
    if (terminal.json) terminal.data(device);
    else for (const line of gpuLines(gpu, list, terminal)) terminal.line(line);
    return;
  }
  const record = await client.record(named.id);
  if (terminal.json) terminal.data(record);
  else for (const line of recordLines(record, terminal)) terminal.line(line);
}

function recordLines(record: Allocation, terminal: Terminal): string[] {
  const { workload_data: data, gpus = [], devices, env, ...rest } = record;
  const { ailing_gpus: ailing = [], ...figures } = rest;
  return [
    ...pairs(figures, terminal),
    ...(devices ?? []).map(({ index, uuid, name }) => pair("gpu", `${index}  ${modelText(name)}  ${uuid}`, terminal)),
    ...Object.entries(env ?? {}).map(([name, value]) => pair(`env ${name}`, String(value), terminal)),
    ...ailing.map(({ uuid, state, reason }) => pair("ailing", `${uuid}: ${state}, ${reason}`, terminal)),
    ...(data === undefined ? [] : [pair("workload_data", JSON.stringify(data), terminal)]),
    ...(record.status === "queued"
      ? gpus.map(({ id, uuid, reason }) => pair(`why not ${id ?? uuid}`, reason ?? "it would do", terminal))
      : []),
  ];
}

function gpuLines(gpu: Gpu, { allocations }: List, terminal: Terminal): string[] {
  const { processes, holders, mig_devices: instances, health, xid_errors: xids, links, shared, ...figures } = gpu;
  const ends = new Map(allocations.map(({ id, expires_at }) => [id, expires_at]));
  const told = Object.entries(health ?? {}).filter(([, value]) => value !== null);
  return [
    ...pairs(figures, terminal),
    ...holders.map(({ allocation_id: id, since }) =>
      pair("holder", `${id}, since ${since}, until ${ends.get(id) ?? "it is released"}`, terminal),
    ),
    ...(shared === null ? [] : [pair("shared", JSON.stringify(shared), terminal)]),
    ...processes.map(({ pid, name, user, used_memory }) =>
      pair("process", `${pid}  ${user ?? "?"}  ${gibText(used_memory)}  ${name ?? "?"}`, terminal),
    ),
    ...instances.map((one) =>
      pair("instance", `${one.gpu_instance_id}  ${one.profile ?? "?"}  ${one.state}  ${one.uuid ?? "?"}`, terminal),
    ),
    ...told.map(([name, value]) => pair(name, String(value), terminal)),
    ...xids.map(({ xid, count, meaning, last_seen }) =>
      pair("xid", `${xid} x ${count}, last ${last_seen}: ${meaning ?? "?"}`, terminal),
    ),
    ...Object.entries(links ?? {}).map(([other, how]) => pair("link", `${how}  ${other}`, terminal)),
  ];
}

function pairs(of: object, terminal: Terminal): string[] {
  return Object.entries(of)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => pair(name, typeof value === "object" ? JSON.stringify(value) : String(value), terminal));
}

function pair(name: string, value: string, terminal: Terminal): string {
  return `${terminal.paint(name.padEnd(20), "dim")}  ${visible(value)}`;
}
