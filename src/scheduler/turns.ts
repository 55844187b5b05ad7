/**
 * The only writer. Commands are decided one by one, and everything they change is committed in one transaction
 * before anybody is answered.
 *
 *  1. One turn at a time: commands that arrive while one is committed are decided and committed together in the next
 *     (group commit). The event loop is free meanwhile. Where another thread commits, it is given the next turn before
 *     anybody hears of the last: to answer is the larger part of this thread's work.
 *  2. The state that others see is always a committed one.
 *  3. When a commit fails, the state before the turn stands, every command of the turn is refused, and only the
 *     figures of the readings are kept.
 *  4. A turn begins with a resumption after an absence (pulse.ts, 1).
 *  5. Observers hear of a turn after its commit, in order; the first of them is the feed of events.
 */
import type { EpochMs } from "../core/base/time.ts";
import type { Command } from "../core/decisions/commands.ts";
import { decide } from "../core/decisions/decide.ts";
import { completed } from "../core/decisions/observe/observe.ts";
import { withObservation } from "../core/decisions/observe/sight.ts";
import { restoredHost, withPolicy } from "../core/host/changes.ts";
import { type HostState, nextDeadline } from "../core/host/state.ts";
import type { EndedAllocation } from "../core/model/allocation.ts";
import { DomainError } from "../core/model/errors.ts";
import type { Policy } from "../core/model/policy.ts";
import { type Captured, TurnRecorder } from "../core/replay/capture.ts";
import type { Clock } from "../platform/clock.ts";
import type { IdSource } from "../platform/ids.ts";
import type { Sender } from "../ports/audit.ts";
import type { Committed } from "../ports/observer.ts";
import { OverloadedError, ShuttingDownError, StorageUnavailableError } from "../ports/refusals.ts";
import type { Store, StoredState } from "../ports/store.ts";
import type { GpuChanges } from "./gpu-changes.ts";
import { Mailbox } from "./mailbox.ts";
import type { Observers } from "./observers.ts";
import type { Pulse } from "./pulse.ts";
import { type Attachments, TurnDraft } from "./turn-draft.ts";
import type { Waiters } from "./waiters.ts";
import type { WindowCalendar } from "./window-calendar.ts";

/** Commands decided in one turn at most, so that a flood cannot keep the event loop for long. */
const MAX_COMMANDS_PER_TURN = 256;

const NOTHING_TO_TELL = () => undefined;

/** Commands that may wait for a turn; every open connection can have one. */
const MAX_MAILBOX = 16_384;

interface Envelope {
  readonly command: Command;
  readonly attachments: Attachments;
  readonly resolve: (result: CommandResult) => void;
  readonly reject: (error: unknown) => void;
}

/** What came of one command: the state after it, and the records that ended with it, those that were due included. */
export interface CommandResult {
  readonly state: HostState;
  readonly at: EpochMs;
  readonly ended: readonly EndedAllocation[];
}

export interface TurnsParts {
  readonly store: Pick<Store, "commit" | "commitsAside">;
  readonly history: GpuChanges;
  readonly clock: Clock;
  readonly newId: IdSource;
  readonly policy: Policy;
  readonly calendar: WindowCalendar;
  readonly pulse: Pick<Pulse, "takeAbsence" | "wakeFor">;
  readonly waiters: Pick<Waiters, "wake">;
  readonly observers: Observers;
  readonly onBug: (error: unknown) => void;
}

export class Turns {
  readonly #parts: TurnsParts;
  #state: HostState;
  #lastSeq: number;
  readonly #mailbox = new Mailbox<Envelope>();
  /** A turn runs, or is about to. */
  #working = false;
  readonly #recorder = new TurnRecorder();
  #storageFailed = false;
  #begun = true;
  #stopping = false;
  #bootId = "";

  constructor(parts: TurnsParts, stored: StoredState) {
    this.#parts = parts;
    this.#state = restoredHost(stored, parts.policy);
    this.#lastSeq = stored.lastSeq;
  }

  /** The committed state. */
  get state(): HostState {
    return this.#state;
  }

  /** The store refused the last turn. */
  get storageFailed(): boolean {
    return this.#storageFailed;
  }

  /**
   * The first command of all, as `Scheduler.start` has it. As long as it could not be stored nothing is decided: what was
   * granted could have ended in the meantime.
   */
  async begin(bootId: string, fencingFloor: number): Promise<void> {
    this.#bootId = bootId;
    this.#begun = true;
    try {
      await this.send({ type: "resume", bootId, fencingFloor });
    } catch (error) {
      this.#begun = false;
      throw error;
    }
  }

  /** What is stored may be shown, and new settings and readings too, until `begin` succeeds. */
  beginReadOnly(): void {
    this.#begun = false;
    this.#storageFailed = true;
  }

  /** Takes what is stored anew, before `begin`. */
  restore(stored: StoredState): void {
    this.#state = restoredHost(stored, this.#state.policy);
    this.#lastSeq = stored.lastSeq;
  }

  /** Refuses new commands, and returns once what was accepted is committed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    while (this.#working) await new Promise((resolve) => setImmediate(resolve));
  }

  /**
   * Has a command decided in the next turn, and its changes committed.
   *
   * @throws DomainError when it is refused; nothing has changed then.
   */
  send(command: Command, attachments: Attachments = {}): Promise<CommandResult> {
    if (this.#stopping) return Promise.reject(new ShuttingDownError());
    if (!this.#begun) return this.#sendReadOnly(command);
    if (this.#mailbox.size >= MAX_MAILBOX) return Promise.reject(new OverloadedError());
    return new Promise((resolve, reject) => {
      const sender: Sender | null = "actor" in command ? command.actor : (attachments.sender ?? null);
      const envelope = { command: withoutOrigin(command), attachments: { ...attachments, sender }, resolve, reject };
      this.#mailbox.put(sender?.principal ?? null, envelope);
      this.#queueTurn();
    });
  }

  async #sendReadOnly(command: Command): Promise<CommandResult> {
    this.#state = this.#withoutStoring(this.#state, command);
    if (command.type === "reconfigure") return { state: this.#state, at: this.#parts.clock.now(), ended: [] };
    throw new StorageUnavailableError("the database could not be written since the daemon started");
  }

  #queueTurn(): void {
    if (this.#working) return;
    this.#working = true;
    setImmediate(() => void this.#work());
  }

  async #work(): Promise<void> {
    let tellLast: () => void = NOTHING_TO_TELL;
    while (this.#mailbox.size > 0) {
      // See 1.
      if (!this.#parts.store.commitsAside) {
        tellLast();
        tellLast = NOTHING_TO_TELL;
      }
      const turn = this.#turn(this.#mailbox.take(MAX_COMMANDS_PER_TURN));
      tellLast();
      tellLast = await turn;
    }
    tellLast();
    this.#working = false;
  }

  /**
   * Never rejects: a failure is the answer to the commands of the turn.
   *
   * @returns what tells the turn's clients and observers of it, now that it is committed.
   */
  async #turn(arrived: readonly Envelope[]): Promise<() => void> {
    const { clock, newId } = this.#parts;
    const now = clock.now();
    const before = this.#state;
    const envelopes = this.#resumes(now) ? [this.#resumption(now), ...arrived] : arrived;
    const draft = new TurnDraft(before, this.#withWindows(before, now), now, newId);
    const answers = envelopes.map((envelope) => this.#decide(draft, envelope, now));
    if (draft.writesSomething) {
      try {
        await this.#commit(draft, now);
      } catch (error) {
        this.#undo(envelopes, before, error);
        return NOTHING_TO_TELL;
      }
    }
    this.#recorder.saw(draft.seen);
    this.#state = draft.state;
    this.#lastSeq += draft.events.length;
    const lastSeq = this.#lastSeq;
    return () => {
      for (const answer of answers) answer();
      this.#tell(draft, { at: now, before, lastSeq });
    };
  }

  #tell(draft: TurnDraft, { at, before, lastSeq }: Pick<Committed, "at" | "before" | "lastSeq">): void {
    const { observers, pulse, waiters } = this.#parts;
    const { events, dueWebhooks: notifications, state } = draft;
    if (events.length > 0 || draft.redelivers) {
      for (const id of draft.changedIds) waiters.wake(id);
      const committed = { at, events, lastSeq, notifications, state, before };
      observers.tell((observer) => observer.committed?.(committed));
    }
    pulse.wakeFor(state);
  }

  #resumes(now: EpochMs): boolean {
    const wasAbsent = this.#parts.pulse.takeAbsence(now);
    // A lease that falls due while nothing can be stored could not be renewed.
    return wasAbsent || (this.#storageFailed && isDue(this.#state, now));
  }

  #resumption(now: EpochMs): Envelope {
    const command = { type: "resume", bootId: this.#bootId, fencingFloor: now } as const;
    const ignore = () => undefined;
    return { command, attachments: {}, resolve: ignore, reject: ignore };
  }

  #withWindows(state: HostState, now: EpochMs): HostState {
    const { calendar } = this.#parts;
    return calendar.isStale(state.policy, now)
      ? withPolicy(state, calendar.fill(state.policy, state.bookings, now))
      : state;
  }

  /** @returns what answers the command's sender, once the turn is committed. */
  #decide(draft: TurnDraft, envelope: Envelope, now: EpochMs): () => void {
    try {
      const command = this.#complete(envelope.command, draft.state, now);
      const decision = decide(draft.state, command, now);
      draft.add(command, decision, envelope.attachments);
      const result = { state: decision.state, at: now, ended: decision.ended };
      return () => envelope.resolve(result);
    } catch (error) {
      if (!(error instanceof DomainError)) this.#parts.onBug(error);
      return () => envelope.reject(error);
    }
  }

  /** New settings come without the spans of their windows, which only the calendar knows. */
  #complete(command: Command, { bookings }: HostState, now: EpochMs): Command {
    if (command.type !== "reconfigure") return command;
    return { ...command, policy: this.#parts.calendar.fill(command.policy, bookings, now) };
  }

  async #commit(draft: TurnDraft, now: EpochMs): Promise<void> {
    const captured = draft.events.length === 0 ? null : this.#captured(draft, now);
    const { store, history } = this.#parts;
    const turn = draft.asTurn(captured?.text ?? null, history);
    await store.commit(turn);
    history.written(turn.gpuChanges);
    if (captured !== null) this.#recorder.kept(captured);
    if (this.#storageFailed) {
      this.#storageFailed = false;
      this.#parts.observers.tell((observer) => observer.storage?.(true, null));
    }
  }

  /** What is captured serves replay only: a failure here must not keep the turn from being committed. */
  #captured({ begun, tellingCommands }: TurnDraft, now: EpochMs): Captured | null {
    try {
      return this.#recorder.take(begun, tellingCommands, now);
    } catch (error) {
      this.#parts.onBug(error);
      this.#recorder.beginAnew();
      return null;
    }
  }

  #undo(envelopes: readonly Envelope[], before: HostState, error: unknown): void {
    this.#recorder.beginAnew();
    const refusal =
      error instanceof DomainError ? error : new StorageUnavailableError("the change could not be stored");
    if (refusal !== error) this.#parts.onBug(error);
    if (!this.#storageFailed) {
      this.#storageFailed = true;
      this.#parts.observers.tell((observer) => observer.storage?.(false, refusal.message));
    }
    this.#state = envelopes.reduce((state, { command }) => this.#withoutStoring(state, command), before);
    for (const { command, resolve, reject } of envelopes) {
      if (command.type === "reconfigure") resolve({ state: this.#state, at: this.#parts.clock.now(), ended: [] });
      else reject(refusal);
    }
  }

  /** What holds even while nothing can be stored; see 3. What follows from new settings, the next turn decides. */
  #withoutStoring(state: HostState, command: Command): HostState {
    if (command.type === "observe") return withObservation(state, completed(command.observation, state));
    if (command.type !== "reconfigure") return state;
    return withPolicy(state, this.#parts.calendar.fill(command.policy, state.bookings, this.#parts.clock.now()));
  }
}

/** Where a command came from is for the audit alone: it decides nothing, and replay does not keep it. */
function withoutOrigin(command: Command): Command {
  if (!("actor" in command) || !("origin" in command.actor)) return command;
  const { principal, admin } = command.actor;
  return { ...command, actor: { principal, admin } };
}

function isDue(state: HostState, now: EpochMs): boolean {
  const at = nextDeadline(state);
  return at !== null && at <= now;
}
