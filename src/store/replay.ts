/**
 * Makes a turn of the journal again, from the file alone: what it found, what was asked, and what comes of it now.
 *
 *  1. The file is only read, so it can be a backup, or the live one beside a running daemon. All of it is read in one
 *     transaction.
 *  2. The state before a turn is folded from a snapshot from before the keyframe (`core/replay/capture.ts`) from which the
 *     turn's inputs are read. So it is known on the way when each waiting client was last seen.
 */
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { canonicalJson } from "../core/base/json.ts";
import type { EpochMs } from "../core/base/time.ts";
import type { Command } from "../core/decisions/commands.ts";
import { decide } from "../core/decisions/decide.ts";
import { emptyHost, restoredHost } from "../core/host/changes.ts";
import type { Event } from "../core/host/events.ts";
import { evolve } from "../core/host/evolve.ts";
import type { HostState } from "../core/host/state.ts";
import { commandInWords, explainDecision, type Hindsight } from "../core/replay/hindsight.ts";
import { TurnReader } from "../core/replay/recall.ts";
import type { Grant, PastDecision } from "../ports/past-decisions.ts";
import { type RefusalReason, StoreRefusedError } from "./errors.ts";
import { BUSY_TIMEOUT_MS, inspect, refusal } from "./open.ts";
import { decodeEvents, decodeState, TurnTexts } from "./records.ts";
import { prepareReplay, type ReplayReads } from "./statements.ts";

/** The decision cannot be made again from this file. The message says why. */
export class ReplayError extends Error {
  override readonly name = "ReplayError";
  /** There is no such file. */
  readonly isMissing: boolean;

  constructor(message: string, { isMissing = false, cause }: { isMissing?: boolean; cause?: unknown } = {}) {
    super(message, { cause });
    this.isMissing = isMissing;
  }
}

/** One command of the turn, decided again. */
export interface ReplayedCommand {
  readonly command: Command;
  readonly before: HostState;
  readonly after: HostState;
  readonly events: readonly Event[];
}

export interface ReplayedTurn {
  readonly at: EpochMs;
  /** Numbers of its first and last event. */
  readonly first: number;
  readonly last: number;
  readonly recorded: readonly Event[];
  readonly commands: readonly ReplayedCommand[];
  /** Whether the same events came of it. */
  readonly isSame: boolean;
  /** What a command was refused with that had been accepted; `null`: nothing. */
  readonly failure: string | null;
}

interface JournalRow {
  readonly seq: number;
  readonly at: number;
  readonly events: string;
  readonly inputs: string | null;
}

/**
 * @param event the number of one of the turn's events.
 * @throws ReplayError when the file cannot be used, or does not tell of the event any more.
 */
export function replayTurn(file: string, event: number): ReplayedTurn {
  return reading(file, (reads) => again(reads, event));
}

/** @throws ReplayError when the file cannot be used. */
function reading<T>(file: string, look: (reads: ReplayReads) => T, check: "none" | "quick" = "quick"): T {
  if (!existsSync(file)) throw new ReplayError(`there is no file ${file}`, { isMissing: true });
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    if (inspect(database, file, check) === 0) throw new ReplayError(`${file} is empty: nothing has happened in it`);
    database.exec("BEGIN");
    return look(prepareReplay(database));
  } catch (error) {
    throw unusable(refusal(error, file), file);
  } finally {
    database?.close();
  }
}

/** What is wrong with a file that is only to be read. */
function unusable(error: unknown, file: string): unknown {
  if (!(error instanceof StoreRefusedError)) return error;
  const why: Record<RefusalReason, string> = {
    "in-use": "is in use",
    "newer-schema": "was written by a newer gpu-orchestrator: replay it with that one",
    foreign: "is not a database of gpu-orchestrator",
    damaged: `is damaged (${error.detail ?? error.message})`,
    unusable: `cannot be read (${error.message}): run this as the user that the daemon runs as, or copy it with backup`,
  };
  return new ReplayError(`${file} ${why[error.reason]}`, { cause: error });
}

function again(reads: ReplayReads, event: number, oldest: Oldest = oldestReplayable): ReplayedTurn {
  const row = rowOf(reads, event, oldest);
  const recorded = decodeEvents(row.events);
  const first = row.seq - recorded.length + 1;
  const { state, commands } = recollected(reads, row, oldest);
  const steps: ReplayedCommand[] = [];
  let before = state;
  let failure: string | null = null;
  for (const command of commands) {
    try {
      const { events, state: after } = decide(before, command, row.at);
      steps.push({ command, before, after, events });
      before = after;
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
      break;
    }
  }
  // Through JSON, as the recorded ones came: what it cannot tell apart was not told apart then.
  const decided = decodeEvents(new TurnTexts().events(steps.flatMap(({ events }) => events)));
  const isSame = failure === null && textOf(decided) === textOf(recorded);
  return { at: row.at, first, last: row.seq, recorded, commands: steps, isSame, failure };
}

/** For comparing. Why a GPU is quarantined is a sentence, and was another in older versions. */
function textOf(events: readonly Event[]): string {
  return canonicalJson(events.map((event) => (event.type === "gpu-quarantined" ? { ...event, reason: "" } : event)));
}

/** What a refusal says of the events that can still be told of. */
type Oldest = (reads: ReplayReads) => string;

function rowOf(reads: ReplayReads, event: number, oldest: Oldest): JournalRow {
  const row = reads.turnOf.get(event) as unknown as JournalRow | undefined;
  if (row === undefined) {
    const { seq } = reads.lastSeq.get() as { seq: number };
    throw new ReplayError(`there is no event ${event} yet: the last is ${seq}`);
  }
  if (row.seq - decodeEvents(row.events).length + 1 > event) {
    throw new ReplayError(`event ${event} is not kept any more; ${oldest(reads)}`);
  }
  return row;
}

/** What the turn's decisions found, and what was asked. */
function recollected(reads: ReplayReads, row: JournalRow, oldest: Oldest) {
  if (row.inputs === null) throw new ReplayError(`what led to event ${row.seq} was not written down`);
  const keyframe = keyframeOf(reads, row);
  const basis = keyframe === null ? null : basisOf(reads, keyframe);
  if (keyframe === null || basis === null) {
    throw new ReplayError(`what went before event ${row.seq} is not kept any more; ${oldest(reads)}`);
  }
  const recollection = new TurnReader();
  let { state, seq } = basis;
  for (const found of reads.turnsBetween.iterate(basis.seq, row.seq)) {
    const turn = found as unknown as JournalRow;
    if (turn.inputs !== null && turn.seq >= keyframe.seq) state = recollection.pass(turn.inputs, state);
    const events = decodeEvents(turn.events);
    seq += events.length;
    // Pruning goes by time, and times may go back where the clock was set between two runs.
    if (seq !== turn.seq) throw new ReplayError(`events before ${turn.seq} are not kept any more`);
    state = events.reduce(evolve, state);
  }
  return recollection.recall(row.inputs, state);
}

/** The last turn up to `row` at which one can begin to read inputs; `null`: there is none any more. */
function keyframeOf(reads: ReplayReads, row: JournalRow): JournalRow | null {
  for (const found of reads.turnsBackFrom.iterate(row.seq)) {
    const turn = found as unknown as JournalRow;
    if (turn.inputs === null) return null;
    if (TurnReader.isKeyframe(turn.inputs)) return turn;
  }
  return null;
}

/** A state from before `keyframe` and the number of its last event, with the journal whole from there on. */
function basisOf(reads: ReplayReads, keyframe: JournalRow): { readonly state: HostState; readonly seq: number } | null {
  const policy = TurnReader.settingsAt(keyframe.inputs ?? "");
  const first = keyframe.seq - decodeEvents(keyframe.events).length + 1;
  const snapshot = reads.snapshotBefore.get(first) as { seq: number; state: string } | undefined;
  const seq = snapshot?.seq ?? 0;
  const next = reads.turnOf.get(seq + 1) as unknown as JournalRow;
  if (next.seq - decodeEvents(next.events).length !== seq) return null;
  const state = snapshot === undefined ? emptyHost(policy) : restoredHost(decodeState(snapshot.state), policy);
  return { state, seq };
}

function oldestReplayable(reads: ReplayReads): string {
  for (const found of reads.turnsFrom.iterate(0)) {
    const turn = found as unknown as JournalRow;
    if (turn.inputs === null || !TurnReader.isKeyframe(turn.inputs)) continue;
    if (basisOf(reads, turn) === null) continue;
    return `the oldest that can be told of is ${turn.seq - decodeEvents(turn.events).length + 1}`;
  }
  return "there is none that can be told of";
}

/** What is told of an event. */
export interface Replay extends Hindsight {
  readonly event: number;
  readonly type: Event["type"];
  readonly at: EpochMs;
  readonly first: number;
  readonly last: number;
  readonly isSame: boolean;
  readonly failure: string | null;
  readonly recorded: readonly Event[];
  readonly decided: readonly Event[];
  /** Of the command that led to the event, with the number of its first. */
  readonly asked: string;
  readonly from: number;
  readonly command: Command;
  /** Other commands of the turn. */
  readonly others: number;
}

/**
 * Makes the decision again that led to `event`, and looks back at it.
 *
 * @throws ReplayError when the file cannot be used, or does not tell of the event any more.
 */
export function replay(file: string, event: number): Replay {
  return told(replayTurn(file, event), event);
}

function told(turn: ReplayedTurn, event: number): Replay {
  const { commands, first, last, recorded, at, isSame, failure } = turn;
  let from = first;
  let chosen = commands[0];
  for (const one of commands) {
    chosen = one;
    if (event < from + one.events.length) break;
    if (one !== commands.at(-1)) from += one.events.length;
  }
  if (chosen === undefined)
    throw new ReplayError(`no command of the turn of event ${event} is accepted any more: ${failure}`);
  return {
    event,
    type: (recorded[event - first] as Event).type,
    at,
    first,
    last,
    isSame,
    failure,
    recorded,
    decided: commands.flatMap(({ events }) => events),
    asked: commandInWords(chosen.command),
    from,
    command: chosen.command,
    others: commands.length - 1,
    ...explainDecision(chosen, at),
  };
}

/**
 * Why an allocation was granted as it was; `null`: the file does not tell of it (any more), or this version would decide
 * otherwise.
 *
 * @param file the daemon's own, which is in use and was checked at its start.
 */
export function grantIn(file: string, grant: Grant): PastDecision | null {
  try {
    return reading(file, (reads) => grantAmong(reads, grant), "none");
  } catch (error) {
    if (error instanceof ReplayError) return null;
    throw error;
  }
}

function grantAmong(reads: ReplayReads, grant: Grant): PastDecision | null {
  const event = grantEvent(reads, grant);
  if (event === null) return null;
  // Nobody reads which others could be told of: to find that out takes long.
  const { queue, at, asked, isSame } = told(
    again(reads, event, () => ""),
    event,
  );
  const place = queue.findIndex((one) => one.id === grant.id);
  const own = queue[place];
  if (!isSame || own?.outcome !== "granted") return null;
  const passed = queue.slice(0, place).filter(({ outcome }) => outcome === "waits");
  return { event, at, trigger: asked, reason: own.reason, passed: passed.map((one) => one.id) };
}

/** Among the turns of the instant of the grant. */
function grantEvent(reads: ReplayReads, { id, grantedAt }: Grant): number | null {
  for (const found of reads.turnsFrom.iterate(firstAt(reads, grantedAt))) {
    const turn = found as unknown as JournalRow;
    if (turn.at > grantedAt) return null;
    const events = decodeEvents(turn.events);
    const place = events.findIndex((event) => event.type === "granted" && event.id === id);
    if (place >= 0) return turn.seq - events.length + 1 + place;
  }
  return null;
}

/**
 * From which number on turns are of `at` or later. Times go up with numbers, unless the clock was set back between two
 * runs: then a turn may not be found.
 */
function firstAt(reads: ReplayReads, at: EpochMs): number {
  let low = 0;
  let high = (reads.lastSeq.get() as { seq: number }).seq + 1;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const turn = reads.timeOf.get(middle) as unknown as Pick<JournalRow, "seq" | "at"> | undefined;
    if (turn !== undefined && turn.at < at) low = turn.seq + 1;
    else high = middle;
  }
  return low;
}
