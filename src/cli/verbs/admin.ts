/** What an admin does, each for a stated reason. */
import { durationOf, wholeOf } from "../ask.ts";
import { type CommonOptions, type Context, contextOf } from "../context.ts";
import { UsageError } from "../exits.ts";
import { allocationNamed, gpuNamed } from "../names.ts";

interface AdminOptions extends CommonOptions {
  readonly reason: string;
  readonly deadline?: string;
}

type Act = "cordon" | "uncordon" | "clear-quarantine";

/** @param said the word for it, where the caller's is another. */
export async function govern(
  act: Act,
  names: readonly string[],
  options: AdminOptions,
  said: string = act,
): Promise<void> {
  const context = await contextOf(options);
  for (const uuid of await uuidsOf(names, context)) {
    const gpu = await context.client.govern(act, uuid, { reason: options.reason });
    if (context.terminal.json) context.terminal.data(gpu);
    else context.terminal.say(`${said}: ${uuid}`);
  }
}

export async function drain(names: readonly string[], options: AdminOptions): Promise<void> {
  const context = await contextOf(options);
  const { client, terminal } = context;
  const deadline = options.deadline === undefined ? {} : { deadline: durationOf("--deadline", options.deadline).text };
  const body = { reason: options.reason, ...deadline };
  if (names.length === 0) {
    const answer = await client.drainHost("drain", body);
    if (terminal.json) return terminal.data(answer);
    return terminal.say(`the host is drained; still there: ${answer.drain?.allocations.join(", ") || "nothing"}`);
  }
  for (const uuid of await uuidsOf(names, context)) {
    const gpu = await client.govern("drain", uuid, body);
    if (terminal.json) terminal.data(gpu);
    else terminal.say(`drain: ${uuid}`);
  }
}

/** A drain of the host that ends no lease. */
export async function pauseQueue(options: AdminOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const { drain: before } = await client.status();
  // Another's deadline would be taken from the drain, and the leases that are to end by it would stay.
  if (before !== null)
    throw new UsageError(`nothing is granted already: the host is drained by ${before.by}: ${before.reason}`);
  const answer = await client.drainHost("drain", { reason: options.reason });
  if (terminal.json) return terminal.data(answer);
  terminal.say("the queue is paused: requests wait, leases stay; gpuo resume-queue --reason ... takes it back");
}

export async function resumeQueue(options: AdminOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  const { drain: before } = await client.status();
  if (before !== null && before.drain_by !== null) {
    throw new UsageError(
      `the host is drained until ${before.drain_by}: ${before.reason}; gpuo undrain --reason ... takes that back`,
    );
  }
  const answer = await client.drainHost("undrain", { reason: options.reason });
  if (terminal.json) return terminal.data(answer);
  terminal.say(before === null ? "the queue was not paused" : "the queue goes on");
}

/** Of the host; a GPU that was drained is uncordoned. */
export async function undrain(names: readonly string[], options: AdminOptions): Promise<void> {
  if (names.length > 0) return govern("uncordon", names, options, "undrain");
  const { client, terminal } = await contextOf(options);
  const answer = await client.drainHost("undrain", { reason: options.reason });
  if (terminal.json) terminal.data(answer);
  else terminal.say("the host takes leases again");
}

interface AdoptOptions extends AdminOptions {
  readonly service?: string;
  readonly principal?: string;
  readonly pid?: string;
}

export async function adopt(name: string, options: AdoptOptions): Promise<void> {
  const context = await contextOf(options);
  if (options.service === undefined) throw new UsageError("--service NAME says who is to hold the GPU");
  const [uuid = ""] = await uuidsOf([name], context);
  const record = await context.client.govern("adopt", uuid, {
    reason: options.reason,
    service_name: options.service,
    ...(options.principal === undefined ? {} : { principal: options.principal }),
    ...(options.pid === undefined ? {} : { pid: wholeOf("--pid", options.pid, 1) }),
  });
  if (context.terminal.json) context.terminal.data(record);
  else context.terminal.say(`adopted as ${String(record.id)}`);
}

export async function revoke(names: readonly string[], options: AdminOptions): Promise<void> {
  const { client, terminal } = await contextOf(options);
  for (const name of names) {
    const record = await client.revoke(await allocationNamed(name, client), options.reason);
    if (terminal.json) terminal.data(record);
    else terminal.say(`${record.id}: ${record.end_reason ?? record.status}`);
  }
}

async function uuidsOf(names: readonly string[], { client }: Context): Promise<string[]> {
  const { gpus } = await client.list();
  return names.map((name) => gpuNamed(name, gpus).uuid);
}
