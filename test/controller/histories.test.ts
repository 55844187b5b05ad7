/**
 * Histories of one host: workloads come, change and go, replicas die, the daemon does not answer, controllers are started
 * anew, and two decide at once. Time is a number. Whatever was, when it is quiet all is as the specs say.
 */
import { expect, test } from "vitest";
import { HostBackend } from "../../src/controller/host/backend.ts";
import { keyOf, LABEL } from "../../src/controller/objects/meta.ts";
import { revisionOf } from "../../src/controller/objects/revision.ts";
import { ReconcileLoop } from "../../src/controller/reconcile/loop.ts";
import fc from "../fc.ts";
import { HostDaemon, type Line } from "./host-daemon.ts";
import { SETTINGS, spec } from "./objects.ts";
import { SqliteObjects } from "./sqlite-objects.ts";

const NAMES = ["chat", "code"] as const;
const START = Date.parse("2026-01-01T00:00:00Z");
const PRIORITIES = { premium: 10, standard: 5, basic: 1 };
/** Looks until it must be quiet, with pauses that outlast those after failures. */
const QUIET_LOOKS = 40;
const QUIET_MS = 301_000;
/** So many in the suite; CONTROLLER_HISTORIES=1000 plays more. */
const HISTORIES = Number(process.env.CONTROLLER_HISTORIES ?? 40);

type Op =
  | { readonly op: "put"; readonly name: number; readonly replicas: number; readonly version: string }
  | { readonly op: "remove"; readonly name: number }
  | { readonly op: "crash"; readonly index: number }
  | { readonly op: "line"; readonly line: Line }
  | { readonly op: "restart" }
  | { readonly op: "both" }
  | { readonly op: "look"; readonly slow: boolean };

const name = fc.nat({ max: NAMES.length - 1 });
const anyOp: fc.Arbitrary<Op> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant("look" as const), slow: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("put" as const),
      name,
      replicas: fc.nat({ max: 3 }),
      version: fc.constantFrom("7b", "13b"),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("remove" as const), name }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("crash" as const), index: fc.nat({ max: 7 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("line" as const),
      line: fc.constantFrom<Line>("up", "up", "down", "mute"),
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom<Op>({ op: "restart" }, { op: "both" }) },
);

class World {
  readonly daemon: HostDaemon;
  readonly store: SqliteObjects;
  now = START;
  #loops: ReconcileLoop[];

  constructor(gpus: number, store: SqliteObjects) {
    this.daemon = new HostDaemon(gpus);
    this.store = store;
    this.#loops = [this.#loop()];
  }

  /** Remembers nothing of what another has seen. */
  #loop(): ReconcileLoop {
    const { client, work } = this.daemon;
    const backend = new HostBackend(client, work, { executor: "vllm", priorities: PRIORITIES, secrets: null });
    let ids = 0;
    return new ReconcileLoop({
      ...{ objects: this.store, history: this.store, backend, settings: SETTINGS, leads: () => true },
      ...{ newId: () => `${this.now}-${Math.random()}-${ids++}`, now: () => this.now },
      log: { info: () => undefined, warn: () => undefined, error: (facts) => this.bugs.push(facts) },
    });
  }

  /** A pass that fails for another reason than that somebody does not answer. */
  readonly bugs: object[] = [];

  async look(isSlow: () => boolean, ms = 1_000): Promise<void> {
    this.now += ms;
    const leaving = new Set(
      this.store.workloads().flatMap(({ metadata }) => {
        return metadata.deletionTimestamp === null ? [] : [keyOf(metadata).replace("/", ".")];
      }),
    );
    const before = this.daemon.made.length;
    await Promise.all(this.#loops.map((loop) => loop.pass()));
    expect(
      this.daemon.made.slice(before).filter((of) => leaving.has(of)),
      "made of what is deleted",
    ).toEqual([]);
    this.daemon.advance(isSlow);
    expect(this.daemon.taken).toBeLessThanOrEqual(this.daemon.gpus);
  }

  async act(op: Op): Promise<void> {
    if (op.op === "look") {
      let turn = 0;
      return this.look(() => op.slow && turn++ % 2 === 0);
    }
    if (op.op === "crash") return this.daemon.crash(op.index);
    if (op.op === "line") this.daemon.line = op.line;
    else if (op.op === "restart") this.#loops = [this.#loop()];
    else if (op.op === "both") this.#loops = [this.#loop(), this.#loop()];
    else if (op.op === "remove") await this.#remove(NAMES[op.name] as string);
    else await this.#put(NAMES[op.name] as string, op.replicas, op.version);
  }

  async #put(of: string, replicas: number, version: string): Promise<void> {
    const draft = { namespace: "default", name: of, labels: {}, annotations: {} };
    await this.store
      .put({ ...draft, spec: spec({ replicas, modelVersion: version }) })
      .catch((error) => expect(error.code).toBe("conflict"));
  }

  async #remove(of: string): Promise<void> {
    const found = this.store.workloads().find(({ metadata }) => metadata.name === of);
    if (found !== undefined) await this.store.remove(found);
  }

  async quiet(): Promise<void> {
    this.daemon.line = "up";
    for (let looks = 0; looks < QUIET_LOOKS; looks++) await this.look(() => false, QUIET_MS);
  }

  judge(): void {
    expect(this.bugs).toEqual([]);
    const live = this.store.workloads();
    expect(live.filter(({ metadata }) => metadata.deletionTimestamp !== null)).toEqual([]);
    const wanted = live.reduce((sum, { spec }) => sum + (spec.replicas ?? 0), 0);
    const of = (key: string) => this.daemon.held.filter(({ labels }) => labels[LABEL.workload] === key);
    const known = live.map(({ metadata }) => keyOf(metadata).replace("/", "."));
    expect(this.daemon.held.filter(({ labels }) => !known.includes(labels[LABEL.workload] ?? ""))).toEqual([]);
    for (const { metadata, spec, status } of live) {
      const held = of(keyOf(metadata).replace("/", "."));
      const revision = revisionOf(metadata, spec);
      const serving = held.filter(({ state }) => state === "ready");
      expect(held.map(({ labels }) => labels[LABEL.revision])).toEqual(held.map(() => revision));
      expect(held).toHaveLength(spec.replicas ?? 0);
      expect(status).toMatchObject({ readyReplicas: serving.length, desiredReplicas: spec.replicas });
      const isReady = status.conditions?.find(({ type }) => type === "Ready")?.status === "True";
      expect(isReady).toBe(serving.length === spec.replicas);
      if (wanted <= this.daemon.gpus) expect(isReady, `${metadata.name} is Ready`).toBe(true);
    }
    const serving = this.daemon.held.filter(({ state }) => state === "ready").length;
    expect(serving).toBe(Math.min(wanted, this.daemon.gpus));
  }
}

test("every history ends where the specs say, nothing of what is deleted is made or left, and then nothing is written", {
  timeout: 60_000 + HISTORIES * 1_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 6 }),
      fc.array(anyOp, { minLength: 5, maxLength: 40 }),
      async (gpus, ops) => {
        const store = await SqliteObjects.open(":memory:");
        try {
          const world = new World(gpus, store);
          for (const op of ops) await world.act(op);
          await world.quiet();
          world.judge();
          const versions = () => store.workloads().map(({ metadata }) => metadata.resourceVersion);
          const [before, writes] = [versions(), world.daemon.writes];
          for (let looks = 0; looks < 5; looks++) await world.look(() => false);
          expect([versions(), world.daemon.writes]).toEqual([before, writes]);
        } finally {
          await store.close();
        }
      },
    ),
    { numRuns: HISTORIES },
  );
});
