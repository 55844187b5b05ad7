/** What has happened, and what is allowed: events, usage, quotas, windows, webhooks. */
import type { Client, EventMessage } from "../../client/client.ts";
import type { Deliveries, Quotas, Usage, WebhookTest } from "../../client/types.ts";
import { nearest } from "../../core/base/suggest.ts";
import { visible } from "../../platform/printable.ts";
import { durationOf, limitOf } from "../ask.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { EVENT_TYPES } from "../event-types.ts";
import { EXIT, NoSuchError, UsageError } from "../exits.ts";
import { type Column, table } from "../table.ts";
import type { Terminal } from "../terminal.ts";
import { leftText, sinceText, spanText } from "../words.ts";

interface EventsOptions extends CommonOptions {
  readonly follow?: boolean;
  readonly since?: string;
  readonly type?: readonly string[];
}

const DEFAULT_SINCE_MS = 3_600_000;
const PATIENCE_MS = 60_000;

export async function events(options: EventsOptions): Promise<void> {
  for (const type of options.type ?? []) knownType(type);
  const { client, terminal } = await contextOf(options, options.follow === true ? PATIENCE_MS : 0);
  const sinceMs = options.since === undefined ? DEFAULT_SINCE_MS : durationOf("--since", options.since).ms;
  const from = Date.now() - sinceMs;
  const last = await client.lastEventId();
  const onlyNew = options.follow === true && options.since === undefined;
  if (!onlyNew && last === 0 && options.follow !== true) return;
  for await (const event of client.events(onlyNew ? last : 0)) {
    const isWanted = Date.parse(String(event.data.at)) >= from && isOfType(event, options.type);
    if (isWanted && terminal.json) terminal.data({ id: event.id, event: event.type, data: event.data });
    else if (isWanted) terminal.line(eventLine(event));
    if (options.follow !== true && event.id >= last) return;
  }
}

/** One that there is not would wait without end for what never comes. */
function knownType(type: string): void {
  if (EVENT_TYPES.includes(type)) return;
  const meant = nearest(type, EVENT_TYPES);
  const hint = meant === null ? "" : `; did you mean ${meant}?`;
  throw new UsageError(`--type ${type}: there is no such type${hint}; there are ${EVENT_TYPES.join(", ")}`);
}

function isOfType({ type }: EventMessage, types: readonly string[] | undefined): boolean {
  return types === undefined || types.length === 0 || types.includes(type);
}

function eventLine({ id, type, data }: EventMessage): string {
  const { at, ...rest } = data;
  const told = Object.entries(rest).filter(
    ([name, value]) => value !== null && name !== "service_name" && name !== "request_id",
  );
  const words = told.map(
    ([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : String(value)}`,
  );
  return visible(`${String(at)}  ${id}  ${type}  ${words.join(" ")}`);
}

interface UsageOptions extends CommonOptions {
  readonly by: string;
  readonly from?: string;
  readonly to?: string;
}

type UsageRow = { readonly name: string } & Usage["total"];

export async function usage(options: UsageOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const now = Date.now();
  const period = {
    ...(options.from === undefined ? {} : { from: instantOf("--from", options.from, now) }),
    ...(options.to === undefined ? {} : { to: instantOf("--to", options.to, now) }),
  };
  const answer = await client.usage(period);
  if (terminal.json) return terminal.data(answer);
  const of = { service: answer.services, principal: answer.principals, gpu: answer.gpus }[options.by];
  if (of === undefined) throw new UsageError(`--by ${options.by}: expected service, principal or gpu`);
  const rows: UsageRow[] = of.map((one) => ({ ...one, name: "uuid" in one ? one.uuid : one.name }));
  terminal.say(`${answer.from} to ${answer.to}`);
  for (const line of table([...rows, { name: "total", ...answer.total }], USAGE_COLUMNS, terminal)) terminal.line(line);
}

const USAGE_COLUMNS: readonly Column<UsageRow>[] = [
  { head: "NAME", cell: ({ name }) => name, shrinksTo: 12 },
  { head: "LEASES", cell: ({ leases }) => String(leases), align: "right", goes: 1 },
  { head: "RESERVED GPU-H", cell: ({ reserved_gpu_hours: hours }) => hours.toFixed(2), align: "right" },
  { head: "USED GPU-H", cell: ({ used_gpu_hours: hours }) => hours.toFixed(2), align: "right" },
  {
    head: "USED %",
    cell: ({ reserved_gpu_seconds: reserved, used_gpu_seconds: used }) =>
      reserved === 0 ? null : `${Math.round((100 * used) / reserved)}%`,
    align: "right",
  },
];

/** A time, a date, or how long ago. */
export function instantOf(flag: string, text: string, now: number): string {
  if (/^\d{4}-\d{2}-\d{2}/.test(text) && !Number.isNaN(Date.parse(text))) return new Date(text).toISOString();
  if (!/^\d+(?:$|[a-z])/.test(text))
    throw new UsageError(
      `${flag} ${text}: expected a time such as 2026-12-01, 2026-12-01T14:00:00Z, or how long ago: 24h`,
    );
  return new Date(now - durationOf(flag, text).ms).toISOString();
}

export async function quotas(options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const { accounts } = await client.quotas();
  if (terminal.json) for (const one of accounts) terminal.data(one);
  else if (accounts.length === 0) terminal.line("no quotas are set for you");
  else for (const line of table(accounts, QUOTA_COLUMNS, terminal)) terminal.line(line);
}

type Account = Quotas["accounts"][number];

const countedText = (of: Account["gpus"]) => (of === null ? null : `${of.used} of ${of.limit}`);

const QUOTA_COLUMNS: readonly Column<Account>[] = [
  { head: "KIND", cell: ({ kind }) => kind },
  { head: "NAME", cell: ({ name }) => name, shrinksTo: 12 },
  { head: "GPUS", cell: ({ gpus }) => countedText(gpus), align: "right" },
  { head: "QUEUED", cell: ({ queued }) => countedText(queued), align: "right" },
  { head: "MAX PRIO", cell: ({ max_priority: max }) => (max === null ? null : String(max)), align: "right" },
  {
    head: "GPU-HOURS",
    cell: ({ gpu_hours: hours }) => (hours === null ? null : `${hours.used ?? "?"} of ${hours.limit}`),
    align: "right",
  },
  {
    head: "RENEWS IN",
    cell: ({ gpu_hours: hours }) => (hours === null ? null : leftText(hours.renews_at, Date.now())),
    align: "right",
  },
];

export async function windows(options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const { windows: all } = await client.windows();
  if (terminal.json) for (const one of all) terminal.data(one);
  else if (all.length === 0) terminal.line("no windows are set");
  else for (const line of table(all, windowColumns(Date.now()), terminal)) terminal.line(line);
}

function windowColumns(
  now: number,
): readonly Column<
  Awaited<ReturnType<Awaited<ReturnType<typeof contextOf>>["client"]["windows"]>>["windows"][number]
>[] {
  return [
    { head: "NAME", cell: ({ name }) => name, shrinksTo: 10 },
    { head: "GPUS", cell: ({ gpus, gpu_uuids }) => String(gpus ?? gpu_uuids?.length ?? 0), align: "right" },
    { head: "SCHEDULE", cell: ({ schedule, time_zone }) => `${schedule} ${time_zone}`, shrinksTo: 12, goes: 1 },
    { head: "LASTS", cell: ({ duration_seconds: s }) => spanText(s * 1_000), align: "right" },
    { head: "NOW", cell: ({ open }) => (open ? "open" : "closed") },
    {
      head: "NEXT",
      cell: ({ occurrences }) => {
        const next = occurrences.find(({ from }) => Date.parse(from) > now);
        return next === undefined ? null : `in ${leftText(next.from, now)}`;
      },
    },
    { head: "FOR", cell: ({ for: those }) => JSON.stringify(those), shrinksTo: 10, goes: 2 },
  ];
}

interface WebhookOptions extends CommonOptions {
  readonly state?: string;
  readonly limit?: string;
}

type Delivery = Deliveries["deliveries"][number];

const DELIVERY_COLUMNS: readonly Column<Delivery>[] = [
  { head: "ID", cell: ({ id }) => id },
  { head: "STATUS", cell: ({ status }) => status },
  { head: "STATE", cell: ({ state }) => state },
  { head: "TRIES", cell: ({ attempts }) => String(attempts), align: "right" },
  { head: "HTTP", cell: ({ http_status: code }) => (code === null ? null : String(code)), align: "right" },
  { head: "AGO", cell: ({ created_at }) => sinceText(created_at, Date.now()), align: "right", goes: 3 },
  { head: "URL", cell: ({ url }) => url, shrinksTo: 12, goes: 2 },
  { head: "ERROR", cell: ({ error }) => error ?? "", shrinksTo: 10, goes: 1 },
];

function tellTest(came: WebhookTest, terminal: Terminal): void {
  if (!came.delivered) process.exitCode = EXIT.refused;
  if (terminal.json) {
    terminal.data(came);
    return;
  }
  const signed = came.signed ? "signed" : "not signed: no webhooks.secret is set";
  const how = came.delivered ? `delivered, ${came.http_status}` : `not delivered: ${came.error ?? "no answer"}`;
  terminal.line(visible(`${how} after ${came.took_ms} ms (${came.id}, ${signed})`));
}

/** By its whole id: each is on one page of those that are kept. */
async function deliveryNamed(id: string, client: Client): Promise<readonly Delivery[]> {
  for (let before: string | null = null; ; ) {
    const page: Deliveries = await client.deliveries({ limit: 1_000, ...(before === null ? {} : { before }) });
    const found = page.deliveries.filter((one) => one.id === id);
    if (found.length > 0) return found;
    if (page.next === null) throw new NoSuchError(`no delivery "${id}"; gpuo webhooks list shows them`);
    before = page.next;
  }
}

export async function webhooks(what: string, id: string | undefined, options: WebhookOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const query = {
    ...(options.state === undefined ? {} : { state: options.state }),
    limit: limitOf(options.limit ?? "100"),
  };
  if (what === "redeliver") {
    if (id === undefined) throw new UsageError("which? gpuo webhooks redeliver ID");
    const answer = await client.redeliver(id);
    return terminal.json ? terminal.data(answer) : terminal.say(`${id}: will be sent again`);
  }
  if (what === "test") {
    if (id === undefined) throw new UsageError("where to? gpuo webhooks test URL");
    return tellTest(await client.testWebhook(id), terminal);
  }
  if (what !== "list" && what !== "show") {
    throw new UsageError(`webhooks ${what}: expected list, show, redeliver or test`);
  }
  if (what === "show" && id === undefined) throw new UsageError("which? gpuo webhooks show ID");
  const chosen = id === undefined ? (await client.deliveries(query)).deliveries : await deliveryNamed(id, client);
  if (terminal.json) for (const one of chosen) terminal.data(one);
  else if (what === "show")
    for (const [name, value] of Object.entries(chosen[0] ?? {}))
      terminal.line(`${name.padEnd(18)}  ${visible(String(value ?? "-"))}`);
  else if (chosen.length === 0) terminal.line("no deliveries");
  else for (const line of table(chosen, DELIVERY_COLUMNS, terminal)) terminal.line(line);
}
