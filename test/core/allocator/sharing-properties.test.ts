/**
 * Generated histories of shared GPUs, with a small world behind them: programs that take memory, outgrow what they have
 * reserved, and stay on after their lease. What must hold is said here once more, apart from the program.
 */

import { expect, test } from "vitest";
import type { Command } from "../../../src/core/decisions/commands.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import type { Event } from "../../../src/core/host/events.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import type { GpuSight } from "../../../src/core/host/sight.ts";
import { DomainError } from "../../../src/core/model/errors.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import type { GpuProcess } from "../../../src/core/model/reading.ts";
import fc from "../../fc.ts";
import { DEFAULT_POLICY, h100, minutes, process, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";

const GPUS = [h100("GPU-a"), h100("GPU-b"), t4("GPU-c")];
const SHARING = { ...DEFAULT_POLICY.sharing, settleAfterMs: seconds(10), settleTimeoutMs: seconds(30) };
/** MiB in use on a GPU on which nobody does anything. */
const IDLE_MIB = 4;

const shareableMib = (totalMib: number) => totalMib - Math.max(512, Math.ceil(totalMib * 0.05));

/** Who runs where, and how large. A program whose pid its lease has named is known as the lease's. */
interface Program {
  readonly pid: number;
  readonly lease: AllocationId | null;
  readonly isNamed: boolean;
  usedMib: number;
}

/** A host whose events are heard as they happen, with the reading that they followed from still in sight. */
class HeardHost extends SimulatedHost {
  listener: (event: Event) => void = () => undefined;
  override do(command: Command): readonly Event[] {
    const events = super.do(command);
    // None yet while the host is being built.
    for (const event of events) this.listener?.(event);
    return events;
  }
}

class World {
  readonly host = new HeardHost(GPUS, { sharing: SHARING, reserveAfterMs: seconds(20) });
  readonly programs = new Map<string, Program[]>(GPUS.map(({ uuid }) => [uuid, []]));
  readonly ids: AllocationId[] = [];
  readonly named = new Map<AllocationId, number>();
  #lastPid = 1_000;

  submit(memoryMib: number, gpus: number, sharing: "shared" | "exclusive", namesPid: boolean): void {
    const pid = ++this.#lastPid;
    const workloadData = namesPid ? { pid } : {};
    const ask = { sharing, minMemoryMib: memoryMib, requiredGpus: gpus, workloadData, maxUtilizationPercent: 100 };
    const id = this.host.submit(ask);
    if (namesPid) this.named.set(id, pid);
    this.ids.push(id);
  }

  /** The lease's program on one of its GPUs takes memory, starting if need be; or somebody else's does. */
  use(uuid: string, lease: AllocationId | null, usedMib: number): void {
    const here = this.programs.get(uuid) ?? [];
    const running = here.find((program) => program.lease === lease);
    if (running !== undefined) running.usedMib = usedMib;
    else here.push({ pid: ++this.#lastPid, lease, isNamed: lease !== null && this.named.has(lease), usedMib });
    this.#show();
  }

  exit(uuid: string, n: number): void {
    const here = this.programs.get(uuid) ?? [];
    here.splice(n % Math.max(1, here.length), 1);
    this.#show();
  }

  #show(): void {
    for (const [uuid, programs] of this.programs) {
      const used = programs.reduce((sum, { usedMib }) => sum + usedMib, IDLE_MIB);
      const total = this.host.devices.find(({ reading }) => reading.uuid === uuid)?.reading.memoryTotalMib ?? 0;
      this.host.gpu(uuid, {
        processes: programs.map((program) => this.#processOf(program)),
        memoryUsedMib: Math.min(used, total),
      });
    }
  }

  #processOf({ pid, lease, isNamed, usedMib }: Program): GpuProcess {
    const startedAt = this.host.now - minutes(60 * 24);
    const parent = isNamed && lease !== null ? [{ pid: this.named.get(lease) as number, startedAt }] : [];
    return process(pid, {
      usedMemoryMib: usedMib,
      origin: { user: null, startedAt, ancestors: parent, cgroup: null },
    });
  }
}

type Step = (world: World) => void;

const anyGpu = fc.constantFrom(...GPUS.map(({ uuid }) => uuid));
const submit = fc
  .tuple(
    fc.constantFrom(1_000, 4_000, 9_000, 14_000, 30_000, 70_000),
    fc.constantFrom(1, 1, 1, 2),
    fc.constantFrom("shared", "shared", "shared", "shared", "exclusive"),
    fc.boolean(),
  )
  .map(
    ([memoryMib, gpus, sharing, namesPid]): Step =>
      (world) =>
        world.submit(memoryMib, gpus, sharing, namesPid),
  );
const onOne = (act: (world: World, id: AllocationId) => void) =>
  fc.nat(63).map(
    (n): Step =>
      (world) => {
        const id = world.ids.at(-1 - (n % Math.max(1, world.ids.length)));
        if (id !== undefined) act(world, id);
      },
  );
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: submit },
  { weight: 3, arbitrary: onOne(({ host }, id) => host.release(id)) },
  { weight: 2, arbitrary: onOne(({ host }, id) => host.claim(id)) },
  { weight: 1, arbitrary: onOne(({ host }, id) => host.hangUp(id)) },
  {
    weight: 6,
    arbitrary: fc.tuple(fc.nat(63), fc.nat(3), fc.double({ min: 0.1, max: 1.6, noNaN: true })).map(
      ([n, at, part]): Step =>
        (world) => {
          const id = world.ids.at(-1 - (n % Math.max(1, world.ids.length)));
          const allocation = id === undefined ? undefined : world.host.state.allocations.get(id);
          if (id === undefined || allocation?.status !== "leased") return;
          const { gpus, sharedMib } = allocation.lease;
          const gpu = gpus[at % gpus.length];
          if (gpu !== undefined) world.use(gpu.uuid, id, Math.round((sharedMib ?? 5_000) * part));
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(anyGpu, fc.integer({ min: 100, max: 9_000 })).map(
      ([uuid, usedMib]): Step =>
        (world) =>
          world.use(uuid, null, usedMib),
    ),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(anyGpu, fc.nat(7)).map(
      ([uuid, n]): Step =>
        (world) =>
          world.exit(uuid, n),
    ),
  },
  {
    weight: 8,
    arbitrary: fc.integer({ min: 1, max: 30_000 }).map(
      (ms): Step =>
        ({ host }) =>
          host.advance(ms),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constant<Step>(({ host }) => {
      host.now += seconds(100);
      host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
    }),
  },
);

interface Part {
  readonly mib: number;
  settled: boolean;
  /** `null`: an offer that nobody has claimed. */
  startedAt: number | null;
}

/** What the events say of one GPU. */
interface Account {
  exclusive: AllocationId | null;
  readonly shares: Map<AllocationId, Part>;
  readonly remains: Map<AllocationId, number>;
}

const happened = new Map<string, number>();
function count(what: string): void {
  happened.set(what, (happened.get(what) ?? 0) + 1);
}

/** Follows the events of a history, and judges each. */
class Judge {
  readonly #world: World;
  readonly #accounts = new Map<string, Account>(
    GPUS.map(({ uuid }) => [uuid, { exclusive: null, shares: new Map(), remains: new Map() }]),
  );

  constructor(world: World) {
    this.#world = world;
  }

  follow(event: Event): void {
    switch (event.type) {
      case "granted":
        for (const { uuid } of event.lease.gpus) this.#granted(uuid, event);
        return;
      case "claimed":
      case "renewed":
        for (const part of this.#partsOf(event.id)) part.startedAt ??= event.at;
        return;
      case "reoffered":
        for (const part of this.#partsOf(event.id)) if (!part.settled) part.startedAt = null;
        return;
      case "resumed":
        for (const { shares } of this.#accounts.values()) {
          for (const part of shares.values()) if (!part.settled && part.startedAt !== null) part.startedAt = event.at;
        }
        return;
      case "memory-settled":
        this.#settled(event);
        return;
      case "ended":
        this.#ended(event);
        return;
      case "memory-returned":
        this.#returned(event.uuid, event.allocationId);
        return;
      case "quarantine-cleared":
      case "gpu-freed":
      case "gpu-quarantined":
        count(event.type);
        return;
      case "went-over-memory":
        this.#outgrew(event);
        return;
      default:
        return;
    }
  }

  #granted(uuid: string, { id, lease, claimBy }: Extract<Event, { type: "granted" }>): void {
    const account = this.#account(uuid);
    // Exclusive and shared never mix.
    expect(account.exclusive, `${uuid} is held alone`).toBeNull();
    if (lease.sharedMib === null) {
      expect([...account.shares.keys(), ...account.remains.keys()], `${uuid} is shared`).toEqual([]);
      account.exclusive = id;
      return;
    }
    // Starts are serialised.
    const settling = [...account.shares].filter(([, part]) => !part.settled).map(([other]) => other);
    expect(settling, `${id} starts on ${uuid} beside one that has not settled`).toEqual([]);
    const { reading, owners } = this.#sightOf(uuid);
    const most = shareableMib(reading.memoryTotalMib ?? 0);
    const ownMib = new Map<string, number>();
    for (const { pid, usedMemoryMib } of reading.processes) {
      const owner = owners.get(pid);
      if (owner !== undefined) ownMib.set(owner, (ownMib.get(owner) ?? 0) + (usedMemoryMib ?? 0));
    }
    let takenMib = lease.sharedMib;
    for (const [other, { mib }] of account.shares) takenMib += Math.max(mib, ownMib.get(other) ?? 0);
    for (const [other, mib] of account.remains) takenMib += Math.max(mib, ownMib.get(other) ?? 0);
    // What is reserved, and what is seen, leave the head-room.
    expect(takenMib, `too much of ${uuid} is reserved`).toBeLessThanOrEqual(most);
    expect((reading.memoryUsedMib ?? 0) + lease.sharedMib, `${uuid} is too full`).toBeLessThanOrEqual(most);
    count(`shares: ${account.shares.size + 1}`);
    account.shares.set(id, {
      mib: lease.sharedMib,
      settled: false,
      startedAt: claimBy === null ? lease.grantedAt : null,
    });
  }

  #settled({ uuid, allocationId, at, seen }: Extract<Event, { type: "memory-settled" }>): void {
    const part = this.#account(uuid).shares.get(allocationId);
    if (part === undefined || part.startedAt === null) throw new Error(`${allocationId} settles, and has not started`);
    expect(at - part.startedAt).toBeGreaterThanOrEqual(seen ? SHARING.settleAfterMs : SHARING.settleTimeoutMs);
    part.settled = true;
    count(`settled: ${seen}`);
  }

  #ended({ id, outcome, verify }: Extract<Event, { type: "ended" }>): void {
    // Nobody's lease ends by what others do.
    expect(["released", "cancelled", "unclaimed"]).toContain(outcome.reason);
    for (const [uuid, account] of this.#accounts) {
      if (account.exclusive === id) account.exclusive = null;
      const part = account.shares.get(id);
      if (part === undefined) continue;
      account.shares.delete(id);
      if (verify.includes(uuid)) account.remains.set(id, part.mib);
      // When nobody is left the whole GPU is verified, as after an exclusive lease.
      if (account.shares.size === 0) account.remains.clear();
    }
  }

  #returned(uuid: string, id: AllocationId): void {
    const account = this.#account(uuid);
    expect(account.remains.delete(id), `${id} returns what it has not left`).toBe(true);
    const { reading, owners } = this.#sightOf(uuid);
    expect(reading.processes.filter(({ pid }) => owners.get(pid) === id)).toEqual([]);
    const others = [...account.shares].reduce((sum, [, { mib }]) => sum + mib, 0);
    if (this.#world.named.has(id) && others === 0) expect(reading.memoryUsedMib).toBeLessThan(2_000);
    count("returned");
  }

  #outgrew({ id, uuid, usedMib, reservedMib }: Extract<Event, { type: "went-over-memory" }>): void {
    const account = this.#account(uuid);
    expect(usedMib).toBeGreaterThan(reservedMib);
    // Only of a lease that is alone, or has processes that are known, can it be said.
    const isAlone = account.shares.size === 1 && account.remains.size === 0;
    expect(isAlone || this.#world.named.has(id), `${id} is accused without proof`).toBe(true);
    count("outgrew");
  }

  *#partsOf(id: AllocationId): Generator<Part> {
    for (const { shares } of this.#accounts.values()) {
      const part = shares.get(id);
      if (part !== undefined) yield part;
    }
  }

  #sightOf(uuid: string): GpuSight {
    const seen = this.#world.host.state.sight.gpus.get(uuid);
    if (seen === undefined) throw new Error(`${uuid} was never seen`);
    return seen;
  }

  #account(uuid: string): Account {
    return this.#accounts.get(uuid) as Account;
  }
}

const NUM_RUNS = Math.ceil(Number(globalThis.process.env.HISTORIES ?? 1_000) / 2);

test("no history of shared GPUs breaks a promise, and the journal folds to the state", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 120, size: "max" }), (steps) => {
      const world = new World();
      const judge = new Judge(world);
      world.host.listener = (event) => judge.follow(event);
      for (const step of steps) {
        try {
          step(world);
        } catch (error) {
          if (!(error instanceof DomainError)) throw error;
        }
      }
      const folded = world.host.log.reduce(evolve, emptyHost(world.host.state.policy));
      const bytes = (state: typeof folded) => JSON.stringify(state.gpus.values().toSorted((a, b) => a.index - b.index));
      expect(bytes(folded)).toBe(bytes(world.host.state));
    }),
    { numRuns: NUM_RUNS },
  );
}, 600_000);

test.skipIf(NUM_RUNS < 500)("all that can happen to shared GPUs has happened in these histories", () => {
  const wanted = [
    "shares: 2",
    "shares: 3",
    "settled: true",
    "settled: false",
    "returned",
    "outgrew",
    "gpu-quarantined",
  ];
  expect(wanted.filter((what) => (happened.get(what) ?? 0) < 3)).toEqual([]);
});
