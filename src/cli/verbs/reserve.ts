/** GPUs for a while, from a time on: `reserve` and `reservations`. */
import type { Client } from "../../client/client.ts";
import type { Reservation } from "../../client/types.ts";
import { durationOf, wholeOf } from "../ask.ts";
import { type CommonOptions, contextOf } from "../context.ts";
import { NoSuchError, UsageError } from "../exits.ts";
import { exactGpus } from "../names.ts";
import { ANONYMOUS } from "../own.ts";
import { type Column, table } from "../table.ts";
import { timeSaid } from "../when.ts";

interface ReserveOptions extends CommonOptions {
  readonly gpus?: string;
  readonly gpu?: string;
  readonly from?: string;
  readonly for?: string;
  readonly to?: string;
  readonly name?: string;
  readonly principal?: string;
}

export async function reserve(options: ReserveOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const now = new Date();
  const from = timeSaid("--from", options.from ?? "now", now);
  const { to, gpu } = options;
  if ((to === undefined) === (options.for === undefined)) throw new UsageError("until when? give --for or --to");
  // How long is left to the daemon to add up: its clock need not show what this machine's does.
  const end =
    to === undefined
      ? { duration: durationOf("--for", options.for ?? "").text }
      : { to: timeSaid("--to", to, now, from).toISOString() };
  const named = await exactGpus(gpu, client);
  const made = await client.reserve({
    gpus: named.gpus ?? wholeOf("--gpus", options.gpus ?? "1", 1),
    ...(from === now ? {} : { from: from.toISOString() }),
    ...end,
    ...(options.name === undefined ? {} : { service_name: options.name }),
    ...(options.principal === undefined ? {} : { principal: options.principal }),
  });
  if (terminal.json) return terminal.data(made);
  terminal.line(made.id);
  terminal.say(`${gpusOf(made)} from ${localTime(made.from)} to ${localTime(made.to)}${forWhom(made)}`);
}

export async function reservations(what: string, name: string | undefined, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  if (what === "cancel") {
    if (name === undefined) throw new UsageError("which? gpuo reservations cancel ID");
    const was = await client.cancelReservation(await reservationNamed(name, client));
    return terminal.json ? terminal.data(was) : terminal.say(`${was.id}: given up`);
  }
  if (what !== "list") throw new UsageError(`reservations ${what}: expected list or cancel`);
  const { reservations: all } = await client.reservations();
  if (terminal.json) for (const one of all) terminal.data(one);
  else if (all.length === 0) terminal.line("nothing is reserved");
  else for (const line of table(all, COLUMNS, terminal)) terminal.line(line);
}

const COLUMNS: readonly Column<Reservation>[] = [
  { head: "ID", cell: ({ id }) => id },
  { head: "GPUS", cell: ({ gpus, gpu_uuids }) => String(gpus ?? gpu_uuids?.length ?? 0), align: "right" },
  { head: "FROM", cell: ({ from }) => localTime(from) },
  { head: "TO", cell: ({ to }) => localTime(to) },
  { head: "NOW", cell: ({ open }) => (open ? "open" : "to come") },
  { head: "FOR", cell: (one) => forWhom(one).replace(/^, for /, ""), shrinksTo: 8 },
];

/** The full id of one that is not over, by itself or how it begins or ends. */
async function reservationNamed(name: string, client: Client): Promise<string> {
  const { reservations: all } = await client.reservations();
  const ids = all.map(({ id }) => id);
  const found = ids.filter(
    (id) => id === name || id.startsWith(name) || id.slice("reservation-".length).startsWith(name),
  );
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  const there = ids.length === 0 ? "nothing is reserved" : `there are ${ids.join(", ")}`;
  throw new NoSuchError(
    found.length > 1 ? `${name}: ${found.length} reservations begin so` : `no reservation "${name}"; ${there}`,
  );
}

function gpusOf({ gpus, gpu_uuids }: Reservation): string {
  const count = gpus ?? gpu_uuids?.length ?? 0;
  return `${count} ${gpu_uuids === null ? "" : "named "}${count === 1 ? "GPU" : "GPUs"}`;
}

/** Of those who may know. */
function forWhom({ principal, service_name }: Reservation): string {
  const whose = [principal === ANONYMOUS ? undefined : principal, service_name ?? undefined].filter(
    (one) => one !== undefined,
  );
  return whose.length === 0 ? "" : `, for ${whose.join("'s ")}`;
}

/** By this machine's time zone, to the minute. */
function localTime(text: string): string {
  const at = new Date(text);
  const two = (part: number) => String(part).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}
