/** Reads what capture.ts wrote: turn by turn, what its decisions found and what they were asked. */

import type { JsonObject } from "../base/json.ts";
import type { EpochMs } from "../base/time.ts";
import type { Command } from "../decisions/commands.ts";
import { accountsWith } from "../host/accounts.ts";
import { withAllocation, withPolicy } from "../host/changes.ts";
import { fairSharesWith } from "../host/fair-share.ts";
import { Inventory } from "../host/inventory.ts";
import { NOTHING_SEEN } from "../host/sight.ts";
import type { HostState } from "../host/state.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import type { Policy } from "../model/policy.ts";
import { closenessOf } from "../readings/closeness.ts";
import { AS_BEFORE, type CapturedTurn, type Observed, type PlainFields, readingIn } from "./capture.ts";
import { fromPlain, type Plain, withDifference } from "./plain.ts";

function commandOf(plain: Plain, surroundings: JsonObject): Command {
  const { type, observation } = plain as { type: string; observation?: JsonObject };
  if (type !== "observe" || observation?.ok !== true) return fromPlain(plain) as Command;
  const { reading, ...probe } = observation;
  const { topology, gpus, ...host } = reading as JsonObject;
  const before = surroundings.sight as JsonObject;
  const whole = {
    ...host,
    topology: (topology === AS_BEFORE ? before.topology : topology) as Plain,
    gpus: (gpus as readonly { readonly uuid: GpuUuid; readonly changed: Plain }[]).map(({ uuid, changed }) =>
      withDifference(readingIn(before, uuid), changed === AS_BEFORE ? undefined : changed),
    ),
  };
  return { type: "observe", observation: fromPlain({ ...probe, reading: whole }) as Observed };
}

export interface Recalled {
  /** From which the turn's events are folded on; its settings, and what it sees, are any. */
  readonly passed: HostState;
  readonly state: HostState;
  readonly commands: readonly Command[];
}

/** Reads turn by turn, from a keyframe on, what {@link TurnRecorder} wrote. */
export class TurnReader {
  #surroundings: JsonObject | null = null;

  /** Whether one can begin at `text`. */
  static isKeyframe(text: string): boolean {
    return (JSON.parse(text) as CapturedTurn).surroundings !== undefined;
  }

  /** The settings that held at a keyframe. @throws Error when `text` is none. */
  static settingsAt(text: string): Policy {
    const { surroundings } = JSON.parse(text) as CapturedTurn;
    if (surroundings === undefined) throw new Error("only a keyframe says what held");
    return fromPlain(surroundings.policy as Plain) as Policy;
  }

  /**
   * Takes in one turn.
   *
   * @param folded the state as the events before it give it, from what this gave for the turn before.
   * @returns that with the clients seen as they were then. Its settings, and what it sees, are any.
   * @throws Error when the first is no keyframe.
   */
  pass(text: string, folded: HostState): HostState {
    return this.#take(JSON.parse(text) as CapturedTurn, folded).state;
  }

  /** As {@link pass}, and with it what the turn's decisions found, whole, and what they were asked. */
  recall(text: string, folded: HostState): Recalled {
    const turn = JSON.parse(text) as CapturedTurn;
    const { state, surroundings } = this.#take(turn, folded);
    return {
      passed: state,
      state: withSurroundings(state, surroundings),
      commands: turn.commands.map((command) => commandOf(command, surroundings)),
    };
  }

  #take({ surroundings, changed, seen = [] }: CapturedTurn, folded: HostState) {
    if (surroundings !== undefined) this.#surroundings = surroundings;
    else if (this.#surroundings === null) throw new Error("turns are recalled from a keyframe on");
    else this.#surroundings = withDifference(this.#surroundings, changed) as JsonObject;
    let state = folded;
    if (surroundings !== undefined) {
      for (const { request } of folded.allocations.values()) state = withSeen(state, request.id, request.submittedAt);
    }
    for (const [id, at] of seen) state = withSeen(state, id, at);
    return { state, surroundings: this.#surroundings };
  }
}

function withSeen(state: HostState, id: AllocationId, seenAt: EpochMs): HostState {
  const allocation = state.allocations.get(id);
  return allocation?.status === "queued" ? withAllocation(state, { ...allocation, seenAt }) : state;
}

function withSurroundings(folded: HostState, surroundings: JsonObject): HostState {
  const { inventory, counted, faded, sight, ...rest } = fromPlain(surroundings) as PlainFields;
  const gpus = inventory.map((uuid) => folded.gpus.get(uuid)).filter((gpu) => gpu !== undefined);
  if (gpus.length !== folded.gpus.size) throw new Error("the journal knows other GPUs than were captured beside it");
  const { topology, ...seen } = sight;
  const state: HostState = {
    ...folded,
    ...rest,
    gpus: Inventory.empty.with(gpus),
    sight: { ...NOTHING_SEEN, ...seen, closeness: closenessOf(topology, null) },
  };
  // The line and the deadlines follow from the settings.
  const settled = withPolicy(state, rest.policy);
  return {
    ...settled,
    accounts: accountsWith(counted, rest.policy, folded.allocations.values()),
    fairShares: fairSharesWith(faded, folded.allocations.values(), rest.policy),
  };
}
