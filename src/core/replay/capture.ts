/**
 * What a turn's decisions depended on and its events do not tell, as text to be kept beside them: so that a decision can
 * be made again, and explained, long after.
 *
 *  1. The journal folds to the allocations and GPUs. What is kept here is the rest: the commands, and the *surroundings*,
 *     which are every other field of the state (the settings, what the monitor saw), the order of the inventory, and when
 *     each waiting client was last seen.
 *  2. Surroundings are written as the difference to those of the last turn that was kept. A turn now and then, and the
 *     first after a start or a failed commit, writes them whole: a *keyframe*. A turn is made again from the last
 *     keyframe before it.
 *  3. Nothing here names a field of the settings or of a command: one that is added is kept by itself. Of the readings,
 *     figures that no decision reads are left out ({@link withoutNoise}).
 *  4. Only the turns that wrote events can be asked about, so only they are kept; of their commands, those that changed
 *     something. A refused command changes nothing.
 */

import type { JsonObject } from "../base/json.ts";
import type { EpochMs } from "../base/time.ts";
import type { Command } from "../decisions/commands.ts";
import { type Counted, countedOf } from "../host/accounts.ts";
import { type FadedUse, fadedUseOf } from "../host/fair-share.ts";
import type { GpuSight, Sight } from "../host/sight.ts";
import type { HostState } from "../host/state.ts";
import type { LiveAllocation } from "../model/allocation.ts";
import type { Topology } from "../model/device.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import type { GpuReading } from "../model/reading.ts";
import { differenceOf, type Plain, toPlain } from "./plain.ts";

/** Turns from one keyframe to the next at most: what is read to make one decision again. */
const KEYFRAME_TURNS = 500;
/** And time: what is dropped for its age takes no more than this of what is younger with it. */
const KEYFRAME_MS = 3_600_000;

type Seen = readonly (readonly [id: AllocationId, at: EpochMs])[];

/** As it stands in the database, as JSON. */
export interface CapturedTurn {
  /** A keyframe's. */
  readonly surroundings?: JsonObject;
  /** Of any other turn that finds them changed. */
  readonly changed?: JsonObject;
  /** When who waits without a webhook was last seen: of a keyframe all, if not when they asked; otherwise the news. */
  readonly seen?: Seen;
  readonly commands: readonly Plain[];
}

/** One that is to be written. */
export interface Captured {
  readonly text: string;
  readonly before: HostState;
  readonly surroundings: JsonObject;
  /** `null`: it is none. */
  readonly keyframeAt: EpochMs | null;
}

/** Captures turn by turn. */
export class TurnRecorder {
  /** The last turn that was kept; `null`: the next is a keyframe. */
  #last: Captured | null = null;
  #turnsSinceKeyframe = 0;
  #keyframeAt: EpochMs = 0;
  /** Who waits and was seen since. */
  #seen = new Set<AllocationId>();

  /** What `commands`, each of which changed something, found in `before`. Nothing is remembered until it is kept. */
  take(before: HostState, commands: readonly Command[], now: EpochMs): Captured {
    const isDue = this.#turnsSinceKeyframe >= KEYFRAME_TURNS || now - this.#keyframeAt >= KEYFRAME_MS;
    const last = isDue ? null : this.#last;
    // Most turns find everything about them as it was.
    const isSame = last !== null && areSurroundedAlike(before, last.before);
    const surroundings = isSame ? last.surroundings : surroundingsOf(before, last);
    const changed =
      last === null || isSame ? undefined : (differenceOf(last.surroundings, surroundings) as JsonObject | undefined);
    const isKeyframe = last === null;
    const seen = seenOf(isKeyframe ? before.allocations.values() : this.#seenIn(before), isKeyframe);
    const turn: CapturedTurn = {
      ...(last === null ? { surroundings } : changed === undefined ? {} : { changed }),
      ...(seen.length === 0 ? {} : { seen }),
      commands: commands.map((command) => plainCommand(command, surroundings)),
    };
    return { text: JSON.stringify(turn), before, surroundings, keyframeAt: last === null ? now : null };
  }

  /** `captured`, the last that was taken, has been kept. */
  kept(captured: Captured): void {
    this.#turnsSinceKeyframe = captured.keyframeAt === null ? this.#turnsSinceKeyframe + 1 : 1;
    this.#keyframeAt = captured.keyframeAt ?? this.#keyframeAt;
    this.#last = captured;
    this.#seen.clear();
  }

  /** These were seen in the turn that is over, kept or not: the next that is kept tells. */
  saw(ids: Iterable<AllocationId>): void {
    for (const id of ids) this.#seen.add(id);
  }

  /** Nobody knows what was kept of the last that was taken. */
  beginAnew(): void {
    this.#last = null;
    this.#seen.clear();
  }

  *#seenIn(before: HostState): Generator<LiveAllocation, void, undefined> {
    for (const id of this.#seen) {
      const allocation = before.allocations.get(id);
      if (allocation !== undefined) yield allocation;
    }
  }
}

/**
 * Those to whom it matters: a webhook's receiver need not be seen. Of a keyframe, those seen when they asked go without
 * saying; as news that counts too, since a wait that was broken off at once has moved it there and back.
 */
function seenOf(allocations: Iterable<LiveAllocation>, isKeyframe: boolean): Seen {
  const seen: [AllocationId, EpochMs][] = [];
  for (const allocation of allocations) {
    if (allocation.status !== "queued" || allocation.request.webhookUrl !== null) continue;
    if (isKeyframe && allocation.seenAt === allocation.request.submittedAt) continue;
    seen.push([allocation.request.id, allocation.seenAt]);
  }
  return seen;
}

/**
 * Fields that are the fold of the events, or derived from it and the settings; and `lasted`, by which nothing is decided.
 */
type Folded =
  | "allocations"
  | "gpus"
  | "nextFencingToken"
  | "bootId"
  | "cordon"
  | "line"
  | "accounts"
  | "fairShares"
  | "bookings"
  | "windows"
  | "windowPlan"
  | "lasted"
  | "preempted"
  | "deadlines"
  | "candidates";
type Rest = Omit<HostState, Folded>;

/** With the topology in the place of what is computed of it, and by UUID so that a difference can be of one GPU. */
type PlainSight = Omit<Sight, "closeness"> & { readonly topology: Topology | null };

export type PlainFields = Omit<Rest, "sight"> & {
  readonly sight: PlainSight;
  /** In its order, by which decisions write events about several GPUs. */
  readonly inventory: readonly GpuUuid[];
  readonly counted: Counted;
  readonly faded: FadedUse;
};

/** Whether two states have the same surroundings, and need not be compared value by value; they may have them if not. */
function areSurroundedAlike(a: HostState, b: HostState): boolean {
  if (!a.gpus.isInOrderOf(b.gpus) || a.accounts !== b.accounts || a.fairShares !== b.fairShares) return false;
  const [rest, other] = [restOf(a), restOf(b)];
  for (const name in rest) if (rest[name as keyof Rest] !== other[name as keyof Rest]) return false;
  return true;
}

/** @param last the fields that are the same object as then are taken from it. */
function surroundingsOf(state: HostState, last: Captured | null): JsonObject {
  const rest = restOf(state);
  const restBefore = last === null ? null : restOf(last.before);
  const fields = Object.entries(rest).map(([name, value]): [string, Plain] => {
    const isSame = restBefore !== null && restBefore[name as keyof Rest] === value;
    if (isSame && last !== null) return [name, last.surroundings[name] as Plain];
    return [name, toPlain(name === "sight" ? plainSight(value as Sight) : value)];
  });
  const isCounted = last !== null && last.before.accounts === state.accounts && last.before.policy === state.policy;
  return {
    ...Object.fromEntries(fields),
    inventory: inventoryOf(state, (last?.surroundings.inventory ?? []) as readonly GpuUuid[]),
    counted: isCounted ? (last.surroundings.counted as Plain) : toPlain(countedOf(state.accounts, state.policy)),
    faded:
      last !== null && last.before.fairShares === state.fairShares
        ? (last.surroundings.faded as Plain)
        : toPlain(fadedUseOf(state.fairShares)),
  };
}

/** @param last is given back when nothing has changed. */
function inventoryOf({ gpus }: HostState, last: readonly GpuUuid[]): readonly GpuUuid[] {
  const isSame = gpus.size === last.length && gpus.values().every(({ uuid }, place) => uuid === last[place]);
  return isSame ? last : gpus.values().map(({ uuid }) => uuid);
}

function restOf(state: HostState): Rest {
  const {
    allocations: _allocations,
    gpus: _gpus,
    nextFencingToken: _nextFencingToken,
    bootId: _bootId,
    cordon: _cordon,
    line: _line,
    accounts: _accounts,
    fairShares: _fairShares,
    bookings: _bookings,
    windows: _windows,
    windowPlan: _windowPlan,
    lasted: _lasted,
    preempted: _preempted,
    deadlines: _deadlines,
    candidates: _candidates,
    ...rest
  } = state;
  return rest;
}

function plainSight({ closeness, ...sight }: Sight): PlainSight {
  const gpus = new Map(
    [...sight.gpus].map(([uuid, seen]) => [
      uuid,
      { ...seen, reading: withoutNoise(seen.reading), owners: ownersHere(seen) },
    ]),
  );
  return { ...sight, gpus, topology: closeness?.topology ?? null };
}

/** Whose the processes on one GPU are: of a shared one that decides how much memory is taken. */
function ownersHere({ reading, owners }: GpuSight): GpuSight["owners"] {
  const here = new Map<number, AllocationId>();
  for (const { pid } of reading.processes) {
    const owner = owners.get(pid);
    if (owner !== undefined) here.set(pid, owner);
  }
  return here;
}

/** Without the figures that change from reading to reading and that no decision reads. */
function withoutNoise(reading: GpuReading): GpuReading {
  return {
    ...reading,
    temperatureC: null,
    powerDrawW: null,
    memoryFreeMib: null,
    health: { ...reading.health, eccCorrectedVolatile: null, eccCorrectedAggregate: null },
  };
}

/** Stands for what the surroundings have already. */
export const AS_BEFORE = "as-before";

export type Observed = Extract<Command, { type: "observe" }>["observation"];

/** An observation is large and mostly what was seen before, so it is written as the difference to that. */
function plainCommand(command: Command, surroundings: JsonObject): Plain {
  if (command.type !== "observe" || !command.observation.ok) return toPlain(command);
  const { reading, ...probe } = command.observation;
  const { gpus, topology, ...host } = reading;
  const before = surroundings.sight as JsonObject;
  const plainTopology = toPlain(topology);
  return {
    type: "observe",
    observation: {
      ...(toPlain(probe) as JsonObject),
      reading: {
        ...(toPlain(host) as JsonObject),
        topology: differenceOf(before.topology, plainTopology) === undefined ? AS_BEFORE : plainTopology,
        gpus: gpus.map((gpu): Plain => {
          const difference = differenceOf(readingIn(before, gpu.uuid), toPlain(withoutNoise(gpu)));
          return { uuid: gpu.uuid, changed: difference ?? AS_BEFORE };
        }),
      },
    },
  };
}

export function readingIn(sight: JsonObject, uuid: GpuUuid): Plain | undefined {
  const gpus = (sight.gpus as JsonObject).$dictionary as JsonObject | undefined;
  return (gpus?.[uuid] as JsonObject | undefined)?.reading;
}
