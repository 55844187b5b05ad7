/** Getting the lease for `gpuo run`: at once, by waiting, or not at all. */
import { randomUUID } from "node:crypto";
import { type Client, isPassing, pause } from "../../client/client.ts";
import { ApiProblem } from "../../client/errors.ts";
import type { AllocateBody, Allocation, Granted } from "../../client/types.ts";
import { EXIT } from "../exits.ts";
import { etaText } from "../words.ts";
import { CannotRun } from "./command.ts";
import type { Voice } from "./voice.ts";

/** How long the daemon may take to answer the first call, before a person wants to know that it does not. */
const FIRST_CALL_PATIENCE_MS = 10_000;
const POLL_ON_TERMINAL_MS = 10_000;
const POLL_MS = 30_000;
const RETRY_MS = 1_000;
const GIVE_UP_MS = 3_000;

export interface Held {
  readonly lease: Granted | Allocation;
  /** By performance.now(): when the call was sent whose answer showed it as held. */
  readonly heldAt: number;
}

export interface Waiting {
  /** `null`: not at all. */
  readonly waitMs: number | "forever" | null;
  /** Aborted with a signal's name when the caller gives up. */
  readonly giveUp: AbortSignal;
}

export type ClientWith = (patienceMs: number) => Client;

/** @param unboundTtl the TTL where the lease cannot be bound to this process. */
export async function acquire(
  body: AllocateBody,
  unboundTtl: string,
  clientWith: ClientWith,
  { waitMs, giveUp }: Waiting,
  voice: Voice,
): Promise<Held> {
  const sentAt = performance.now();
  const asked = {
    ...body,
    ...(waitMs === null ? { queue: false } : {}),
    ...(typeof waitMs === "number" ? { queue_timeout: `${waitMs}ms` } : {}),
  };
  const answer = await firstAnswer(asked, clientWith(FIRST_CALL_PATIENCE_MS)).catch((error: unknown) => {
    if (asked.bind_pid !== true || !cannotBind(error)) throw error;
    return firstAnswer({ ...unbound(asked), ttl: unboundTtl }, clientWith(FIRST_CALL_PATIENCE_MS));
  });
  if (giveUp.aborted) return left(answer.id, clientWith, giveUp);
  if (answer.status === "allocated") return { lease: answer, heldAt: sentAt };
  try {
    return await granted(answer.id, clientWith(0), giveUp, voice);
  } catch (error) {
    if (giveUp.aborted) return left(answer.id, clientWith, giveUp);
    throw error;
  }
}

/**
 * The daemon does not see this process, since one of the two is in a container, where this one may be number 1; or it is
 * of a version that binds none.
 */
function cannotBind(error: unknown): boolean {
  if (!(error instanceof ApiProblem)) return false;
  return (
    error.code === "pid-not-visible" ||
    error.errors.some(({ path }) => path === "bind_pid" || path === "workload_data.pid")
  );
}

/** Without the number too: to the daemon it is nobody's or another's, whose work would be shown as this lease's. */
function unbound({ bind_pid: _, workload_data: data, ...body }: AllocateBody): AllocateBody {
  const { pid: _pid, pid_start_ticks: _ticks, ...rest } = data ?? {};
  return { ...body, workload_data: rest };
}

async function firstAnswer(body: AllocateBody, client: Client) {
  try {
    return await client.allocate(body, randomUUID());
  } catch (error) {
    if (!(error instanceof ApiProblem) || error.code !== "no-gpu-free") throw error;
    throw new CannotRun(EXIT.tryLater, error.message);
  }
}

/** Whoever does not wait any more makes room at once. */
async function left(id: string, clientWith: ClientWith, giveUp: AbortSignal): Promise<never> {
  const { number, words } = signalNumbers[giveUp.reason as keyof typeof signalNumbers];
  await clientWith(GIVE_UP_MS)
    .remove(id)
    .catch(() => {});
  throw new CannotRun(EXIT.signal + number, `${words}; ${id} is cancelled`);
}

const signalNumbers = {
  SIGHUP: { number: 1, words: "hung up" },
  SIGINT: { number: 2, words: "interrupted" },
  SIGQUIT: { number: 3, words: "quit" },
  SIGTERM: { number: 15, words: "terminated" },
} as const;

async function granted(id: string, client: Client, giveUp: AbortSignal, voice: Voice): Promise<Held> {
  let waitMs = 0;
  for (;;) {
    try {
      const sentAt = performance.now();
      const record = await client.record(id, { waitMs, signal: giveUp });
      if (record.status === "ended") throw notGranted(record);
      // A long poll was sent long before the grant: what counts from its answer is a renewal.
      if (record.status !== "queued")
        return { lease: await renewed(record, client), heldAt: waitMs === 0 ? sentAt : performance.now() };
      voice.status(await queueWords(record, client));
      waitMs = voice.isOnTerminal ? POLL_ON_TERMINAL_MS : POLL_MS;
    } catch (error) {
      if (giveUp.aborted || !isPassing(error)) throw error;
      voice.status("the daemon does not answer; the place in the queue is kept, and asked for again");
      waitMs = 0;
      await pause(RETRY_MS, giveUp);
    }
  }
}

async function renewed(record: Allocation, client: Client): Promise<Allocation> {
  const { fencing_token: token } = record;
  return { ...record, ...(await client.renew(record.id, token)) };
}

function notGranted({ end_reason, end_detail: detail }: Allocation): CannotRun {
  const reason = end_reason ?? "ended";
  const words = `not granted: ${reason}${detail === undefined ? "" : `, ${detail}`}`;
  return new CannotRun(reason === "timed_out" ? EXIT.timedOut : EXIT.ownFailure, words);
}

/** `queued 3 of 7, about 12 to 25 min, waiting for 2 GPUs (8 leased)`. */
async function queueWords(record: Allocation, client: Client): Promise<string> {
  const list = await client.list().catch(() => null);
  const own = list?.queue.find(({ id }) => id === record.id) ?? record;
  const place = `queued ${own.position ?? "?"}${list === null ? "" : ` of ${list.queue.length}`}`;
  const eta = etaText(own.eta, Date.now()) ?? "no end is certain";
  const preempting = record.preempting_since === undefined ? "" : "; leases are being taken back for it";
  return `${place}, ${eta}, ${own.reason ?? "waiting"}${preempting}`;
}
