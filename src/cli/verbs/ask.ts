/** The API's calls, for scripts. */
import { randomUUID } from "node:crypto";
import { ApiProblem } from "../../client/errors.ts";
import type { Allocation, Granted, Plan, Queued } from "../../client/types.ts";
import { visible } from "../../platform/printable.ts";
import { type AskOptions, askOf, durationOf } from "../ask.ts";
import { type CommonOptions, type Context, contextOf } from "../context.ts";
import { EXIT, UsageError } from "../exits.ts";
import { allocationNamed, exactGpus, gpusOf } from "../names.ts";
import { known } from "../own.ts";
import type { Terminal } from "../terminal.ts";
import { etaText, plural } from "../words.ts";

const PATIENCE_MS = 10_000;

interface AllocateOptions extends CommonOptions, AskOptions {
  readonly export?: boolean;
  /** commander's `--no-queue`. */
  readonly queue?: boolean;
  readonly wait?: string | true;
  readonly webhook?: string;
}

export async function allocate(options: AllocateOptions): Promise<void> {
  const context = await contextOf(options, PATIENCE_MS);
  const { client, terminal } = context;
  const waitMs = options.wait === undefined ? 0 : options.wait === true ? null : durationOf("--wait", options.wait).ms;
  const body = {
    ...askOf(options),
    ...(await exactGpus(options.gpu, client)),
    ...(options.queue === false ? { queue: false } : {}),
    ...(options.webhook === undefined ? {} : { webhook_url: options.webhook }),
    ...(waitMs === null || waitMs === 0 ? {} : { queue_timeout: `${waitMs}ms` }),
  };
  const answer = await client.allocate(body, randomUUID());
  // Scripts that take its output as their environment want the GPUs, not a place in the line.
  const mustHave = waitMs !== 0 || options.export === true;
  if (answer.status === "queued" && !mustHave) return tellQueued(answer, terminal);
  const held = answer.status === "queued" ? await waited(answer.id, context) : answer;
  if (options.export === true) for (const line of exports(held)) terminal.line(line);
  else tellHeld(held, terminal);
}

function tellQueued(answer: Queued, terminal: Terminal): void {
  if (terminal.json) {
    terminal.data(answer);
    return;
  }
  terminal.line(answer.id);
  terminal.say(
    `queued at ${answer.position}, ${etaText(answer.eta, Date.now()) ?? "no end is certain"}: ${answer.reason}`,
  );
  terminal.say(`gpuo wait ${answer.id} waits for it; what nobody asks for is abandoned`);
}

function tellHeld(held: Granted | Allocation, terminal: Terminal): void {
  if (terminal.json) {
    terminal.data(held);
    return;
  }
  terminal.line(held.id);
  terminal.say(`GPU ${gpusOf(held)}${held.expires_at === undefined ? "" : `, until ${held.expires_at}`}`);
}

/** Waits for it, and gives it up when interrupted: else it would hold a place that nobody wants. */
async function waited(id: string, { client, terminal }: Context): Promise<Allocation> {
  const giveUp = new AbortController();
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.once(signal, () => giveUp.abort(signal));
  let said = "";
  try {
    return await client.granted(
      id,
      ({ position, eta, reason }) => {
        const words = `queued at ${position}, ${etaText(eta, Date.now()) ?? "no end is certain"}: ${reason}`;
        if (words !== said) terminal.say(words);
        said = words;
      },
      { signal: giveUp.signal },
    );
  } catch (error) {
    if (!giveUp.signal.aborted) throw error;
    await client.remove(id);
    terminal.say("cancelled");
    return process.exit(
      EXIT.signal + (giveUp.signal.reason === "SIGINT" ? 2 : giveUp.signal.reason === "SIGTERM" ? 15 : 1),
    );
  } finally {
    for (const signal of signals) process.removeAllListeners(signal);
  }
}

/** What `eval "$(...)"` takes. */
export function exports(held: Granted | Allocation): string[] {
  const uuids = (held.gpu_uuids ?? []).join(",");
  const variables = { ...held.env, NVIDIA_VISIBLE_DEVICES: uuids, GPU_ORCHESTRATOR_ALLOCATION_ID: held.id };
  return Object.entries(variables).map(([name, value]) => `export ${name}=${quoted(String(value))}`);
}

function quoted(text: string): string {
  return /^[A-Za-z0-9_.,:/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export async function plan(options: AllocateOptions): Promise<void> {
  const { client, terminal } = await contextOf(options, PATIENCE_MS);
  const answer = await client.plan({ ...askOf(options), ...(await exactGpus(options.gpu, client)) });
  if (terminal.json) terminal.data(answer);
  else for (const line of planLines(answer)) terminal.line(line);
  if (answer.outcome === "refused") process.exitCode = EXIT.refused;
}

export function planLines(plan: Plan): string[] {
  const asked = `${plural(plan.required_gpus, "GPU")} with ${plan.min_memory_mb} MiB, priority ${plan.priority}`;
  if (plan.outcome === "granted") return [`${asked}: granted now, GPU ${(plan.gpu_ids ?? []).join(",")}`];
  if (plan.outcome === "refused") return [visible(`${asked}: refused (${plan.code}): ${plan.reason}`)];
  const eta = etaText(plan.eta, Date.now()) ?? "no end is certain";
  const why = plan.gpus.filter(({ reason }) => reason !== null);
  return [
    visible(`${asked}: would be queued at ${plan.position}, ${eta}: ${plan.reason}`),
    ...why.map(({ id, uuid, reason }) => visible(`  GPU ${id ?? uuid}: ${reason}`)),
  ];
}

interface ReleaseOptions extends CommonOptions {
  readonly service?: string;
  readonly mine?: boolean;
}

export async function release(ids: readonly string[], options: ReleaseOptions): Promise<void> {
  const { client, terminal } = await contextOf(options, PATIENCE_MS);
  if (options.service !== undefined) {
    const answer = await client.releaseService(options.service);
    const { released } = answer;
    if (terminal.json) terminal.data(answer);
    else terminal.say(released.length === 0 ? `${options.service} had nothing` : `released ${released.join(", ")}`);
    return;
  }
  const chosen =
    options.mine === true
      ? (await known(client)).allocations
      : await Promise.all(ids.map((id) => allocationNamed(id, client)));
  if (chosen.length === 0 && options.mine !== true) throw new UsageError("which? give ids, --mine or --service NAME");
  for (const id of chosen) {
    const record = await client.remove(id);
    if (terminal.json) terminal.data(record);
    else terminal.say(`${id}: ${record.end_reason ?? record.status}`);
  }
  if (chosen.length === 0) terminal.say("nothing of yours is held or waits");
}

export async function renew(name: string, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options, PATIENCE_MS);
  const record = await client.renew(await allocationNamed(name, client));
  if (terminal.json) return terminal.data(record);
  terminal.say(record.expires_at === undefined ? "renewed; it has no end" : `renewed until ${record.expires_at}`);
}

export async function nudge(name: string, options: CommonOptions & { readonly message: string }): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const record = await client.nudge(await allocationNamed(name, client), options.message);
  if (terminal.json) return terminal.data(record);
  const holder = record.principal === undefined ? record.service_name : `${record.service_name} (${record.principal})`;
  terminal.say(visible(`told ${holder}, who holds GPU ${gpusOf(record)}`));
}

/** So long from now: by its hard end where it has one, else by its TTL. */
export async function extend(name: string, duration: string, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options, PATIENCE_MS);
  const { ms } = durationOf("the duration", duration);
  const before = await client.record(await allocationNamed(name, client));
  const heldMs = Date.now() - Date.parse(before.allocated_at ?? before.submitted_at);
  const seconds = (of: number) => `${Math.ceil(of / 1_000)}s`;
  if (before.max_duration_seconds === null && before.ttl_seconds === null) {
    return terminal.say(`${before.id} has no end: there is nothing to move`);
  }
  const to = before.max_duration_seconds === null ? { ttl: seconds(ms) } : { max_duration: seconds(heldMs + ms) };
  const record = await client.extend(before.id, to);
  if (terminal.json) return terminal.data(record);
  terminal.say(`${record.id} lasts until ${record.expires_at ?? "it is released"}${renewedUntil(record)}`);
}

/** Its hard end, where that is not what it ends by unless it is renewed. */
function renewedUntil(record: Allocation): string {
  if (record.max_duration_seconds === null || record.allocated_at === undefined) return "";
  const hardEnd = new Date(Date.parse(record.allocated_at) + record.max_duration_seconds * 1_000).toISOString();
  return record.expires_at === hardEnd ? "" : `, and with renewals until ${hardEnd}`;
}

export async function cancel(name: string, options: CommonOptions): Promise<void> {
  const { client, terminal } = await contextOf(options, PATIENCE_MS);
  const id = await allocationNamed(name, client);
  const before = await client.record(id);
  if (before.status !== "queued") {
    throw new ApiProblem(409, "not-queued", `${id} is ${before.status}, and does not wait; gpuo release ends a lease`);
  }
  const record = await client.remove(id);
  if (terminal.json) terminal.data(record);
  else terminal.say(`${id}: ${record.end_reason ?? record.status}`);
}

export async function wait(name: string, options: CommonOptions & { readonly export?: boolean }): Promise<void> {
  const { client, terminal } = await contextOf(options, PATIENCE_MS);
  const record = await client.granted(await allocationNamed(name, client), ({ position, reason }) => {
    terminal.say(`queued at ${position}: ${reason}`);
  });
  if (options.export === true) for (const line of exports(record)) terminal.line(line);
  else tellHeld(record, terminal);
}
