/**
 * Which replica is stopped so that another one starts in its place. Pure; for backends whose replicas do not heal by
 * themselves.
 *
 *  1. One at a time of a workload.
 *  2. One that has failed for good has been replaced already: it goes at once.
 *  3. One that is stopping on a node that is away is given up after a while, since nobody there can say that it has
 *     stopped.
 *  4. One that does not come up (crash loops, images, no progress) is started anew elsewhere, at first after two minutes
 *     and then with pauses that double up to an hour, until the workload is out of trouble.
 */
import type { EpochMs } from "../../core/base/time.ts";
import { awayIn } from "./fleet.ts";
import type { ReplicaSeen, Seen } from "./seen.ts";

const FIRST_PAUSE_MS = 120_000;
/** Its own probe ends it first, when the budget is over. */
const SPARE_MS = 60_000;
const LONGEST_PAUSE_MS = 3_600_000;
/** After so long without trouble the next one is a new one. */
const CALM_MS = 600_000;

export interface Removal {
  readonly name: string;
  /** Without waiting for the node's word. */
  readonly isForced: boolean;
  /** On which it did not come up: the next one goes elsewhere, where it can; `null`: it is not the node's fault. */
  readonly avoided: string | null;
  readonly why: string;
}

export interface RecoveryMemory {
  /** Since when a replica is in trouble, or stops on a node that is away, by name. */
  readonly since: Readonly<Record<string, EpochMs>>;
  /** `null`: none was started anew yet. */
  readonly last: { readonly at: EpochMs; readonly pauseMs: number } | null;
}

export const NO_RECOVERY: RecoveryMemory = { since: {}, last: null };

export function recover(
  { tracks, nodes, now }: Pick<Seen, "tracks" | "nodes" | "now">,
  memory: RecoveryMemory,
  budgetMs: number,
): { readonly removed: readonly Removal[]; readonly memory: RecoveryMemory } {
  const away = awayIn(nodes);
  const replicas = tracks.flatMap((track) => track.replicas).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const since: Record<string, EpochMs> = {};
  for (const replica of replicas) {
    if (isSuspect(replica, away)) since[replica.name] = memory.since[replica.name] ?? now;
  }
  const isCalm = memory.last !== null && Object.keys(since).length === 0 && now - memory.last.at >= CALM_MS;
  const last = isCalm ? null : memory.last;
  const forMs = ({ name }: ReplicaSeen) => now - (since[name] ?? now);
  const stay = { removed: [], memory: { since, last } };

  const failed = replicas.find(({ phase }) => phase === "failed");
  if (failed !== undefined) return { ...stay, removed: [removal(failed, "it has failed")] };
  const lost = replicas.find((one) => isLost(one, away) && forMs(one) >= FIRST_PAUSE_MS);
  if (lost !== undefined) return { ...stay, removed: [{ ...removal(lost, "its node is away"), isForced: true }] };

  const troubled = replicas.find((one) => {
    if (!isTroubled(one)) return false;
    return forMs(one) >= (one.trouble === null ? budgetMs + SPARE_MS : FIRST_PAUSE_MS);
  });
  if (troubled === undefined || (last !== null && now - last.at < last.pauseMs)) return stay;
  const pauseMs = last === null ? FIRST_PAUSE_MS : Math.min(LONGEST_PAUSE_MS, last.pauseMs * 2);
  return {
    removed: [{ ...removal(troubled, troubled.trouble?.message ?? "it does not come up"), avoided: troubled.node }],
    memory: { since, last: { at: now, pauseMs } },
  };
}

function isSuspect(replica: ReplicaSeen, away: ReadonlySet<string>): boolean {
  return isTroubled(replica) || isLost(replica, away);
}

function isTroubled({ phase, trouble }: ReplicaSeen): boolean {
  return phase === "starting" || phase === "unready" ? trouble !== null || phase === "starting" : false;
}

function isLost({ phase, node }: ReplicaSeen, away: ReadonlySet<string>): boolean {
  return phase === "stopping" && node !== null && away.has(node);
}

function removal({ name }: ReplicaSeen, why: string): Removal {
  return { name, isForced: false, avoided: null, why };
}
