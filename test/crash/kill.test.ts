/**
 * The built daemon on a real file, killed with SIGKILL again and again: at random instants, and at labelled points
 * around its commits. Its clients keep their own histories; after every kill these and the file must bear each other
 * out (checker.ts), and the next daemon on the file must bear out both.
 *
 * Turns of so few clients are never so large that the store's thread has them: test/store/crash.test.ts kills that one.
 */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Random, seededRandom } from "../../src/monitor/simulated/random.ts";
import { DaemonEndedError, eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "../e2e/daemon.ts";
import { Receiver } from "../e2e/receiver.ts";
import { SEED } from "../seed.ts";
import { findBreaches } from "./checker.ts";
import { BrokenError, CrashClient, recorded } from "./client.ts";
import { CRASH_POINTS, type CrashPoint, type CrashReport } from "./crash-points.ts";
import type { Ask, History } from "./history.ts";
import { leaseOf } from "./knowledge.ts";
import { writePreload } from "./preload.ts";
import { countPending, DATABASE, readSurvivors } from "./survivors.ts";

const CYCLES = Number(process.env.KILL_CYCLES ?? 200);
/** In so many, every labelled point is reached but for an unlikely chance. */
const CYCLES_TO_SEE_ALL = 200;
/** Kills of daemons on one file. The checker looks at the whole history of a file after each. */
const KILLS_PER_FILE = 20;
/** Files whose daemons run side by side. */
const LANES = 2;
const CLIENTS = 6;
/** The share of kills at a random instant, and the latest of these. */
const RANDOM_SHARE = 0.25;
const LONGEST_LIFE_MS = 300;
/** A daemon that does not come to its labelled point is killed all the same. */
const LONGEST_WAY_MS = 3_000;
/** Within the first of them a daemon is killed: more are seldom reached. */
const MOST_PASSES = 40;
/** A COMMIT takes some 300 us on a fast disk, and killing some 50. */
const MOST_DELAY_US = 200;
/** Three failures in a row, and then some. */
const LONGEST_BACKOFF_MS = 60_000;

/** Nothing ends but by what the clients do and by their TTLs. */
const CONFIG = `
scheduler: {max_queue_size: 10000, claim_timeout: 1h, abandon_after: 1h, reserve_after: 1h}
monitoring: {refresh_interval: 250ms}
storage: {path: ${DATABASE}}
`;
/** Beside it, on two files of three: GPUs change hands at once, so that more happens in a life. */
const UNVERIFIED = "allocator: {verify_release: never}\n";

interface Plan {
  /** `null`: at a random instant. */
  readonly point: CrashPoint | null;
  readonly env: Record<string, string>;
  readonly lifeMs: number;
}

function planOf(random: Random): Plan {
  const slow = random() < 0.4;
  const point = random() < RANDOM_SHARE ? null : (CRASH_POINTS[Math.floor(random() * CRASH_POINTS.length)] ?? null);
  const env: Record<string, string> = slow ? { SLOW_TURNS: "1" } : {};
  if (point === null) return { point, env, lifeMs: random() * LONGEST_LIFE_MS };
  return {
    point,
    env: {
      ...env,
      CRASH_POINT: point,
      CRASH_PASS: String(1 + Math.floor(random() ** 2 * MOST_PASSES)),
      CRASH_DELAY_US: String(Math.floor(random() * MOST_DELAY_US)),
    },
    lifeMs: LONGEST_WAY_MS,
  };
}

/** One database file, the clients of the daemons that live on it one after the other, and all that is known of it. */
class DoomedFile {
  readonly history: History = { calls: [], survivors: [], deliveries: [] };
  /** How each daemon died: at which point, or `random`. */
  readonly deaths: string[] = [];
  readonly #folder = temporaryFolder();
  readonly #preload = writePreload(this.#folder);
  readonly #random: Random;
  readonly #receiver: Receiver;
  readonly #config: string;
  readonly #clients: readonly CrashClient[];
  #taken = 0;
  #last: TestDaemon | null = null;

  constructor(receiver: Receiver, random: Random, config: string) {
    this.#receiver = receiver;
    this.#config = config;
    this.#random = random;
    const { calls } = this.history;
    this.#clients = Array.from(
      { length: CLIENTS },
      (_, n) => new CrashClient(`client-${n}`, calls, random, receiver.url),
    );
  }

  async killOnce(): Promise<void> {
    const plan = planOf(this.#random);
    const daemon = await this.#start(plan);
    if (daemon !== null) {
      // A receiver that is down for a while must be called again.
      this.#receiver.status = this.#random() < 0.1 ? 503 : 200;
      await Promise.all([
        this.#kill(daemon, plan.lifeMs),
        this.#audit(daemon),
        ...this.#clients.map((client) => client.useUntilItDies(daemon)),
      ]);
      this.#noteDeath(daemon.log);
    }
    this.#lookBack();
  }

  /** `null`: it died before it served. */
  async #start({ env }: Plan): Promise<TestDaemon | null> {
    try {
      this.#last = await startDaemon({ folder: this.#folder, config: this.#config, env, preload: this.#preload });
      return this.#last;
    } catch (error) {
      if (!(error instanceof DaemonEndedError) || error.signal !== "SIGKILL") throw error;
      this.#noteDeath(error.log);
      return null;
    }
  }

  async #kill(daemon: TestDaemon, afterMs: number): Promise<void> {
    const { process: child } = daemon;
    const ended = child.signalCode === null ? once(child, "exit") : null;
    const ending = new AbortController();
    await Promise.race([ended, sleep(afterMs, null, { signal: ending.signal }).catch(() => undefined)]);
    ending.abort();
    expect(await daemon.end("SIGKILL"), daemon.log.join("\n")).toBe("SIGKILL");
  }

  #noteDeath(log: readonly string[]): void {
    const reports = log
      .filter((line) => line.startsWith('{"crashPoint"'))
      .map((line) => JSON.parse(line) as CrashReport);
    const last = reports.at(-1);
    this.deaths.push(last === undefined ? "random" : `${last.crashPoint} (${last.thread})`);
    const complaints = log.filter((line) => /"level":"(?:error|fatal)"/.test(line));
    expect(complaints).toEqual([]);
  }

  /** What the daemon says of the whole host, beside its clients. */
  async #audit(daemon: TestDaemon): Promise<void> {
    try {
      await recorded(daemon, "auditor", { what: "list" }, this.history.calls);
    } catch (error) {
      if (!(error instanceof BrokenError)) throw error;
    }
  }

  /** Sets what is known against what is left. */
  #lookBack(): void {
    this.#takeDeliveries();
    this.history.survivors.push(readSurvivors(this.#folder));
    expect(findBreaches(this.history), `after kill ${this.history.survivors.length}`).toEqual([]);
  }

  #takeDeliveries(): void {
    for (const { at, headers, body } of this.#receiver.received.slice(this.#taken)) {
      this.history.deliveries.push({
        at,
        deliveryId: String(headers["webhook-id"]),
        allocationId: body.request_id,
        status: body.status,
        lease: leaseOf(body.allocation),
      });
    }
    this.#taken = this.#receiver.received.length;
  }

  /** A daemon that may live: all is given back, no GPU has been lost, and every webhook arrives. */
  async settle(): Promise<void> {
    this.#receiver.status = 200;
    const daemon = await startDaemon({ folder: this.#folder, config: this.#config });
    this.#last = daemon;
    await this.#audit(daemon);
    await Promise.all(this.#clients.map((client) => client.giveAllBack(daemon)));
    let tries = 0;
    const takeAll = () => {
      const ask: Ask = {
        mark: `all-${++tries}`,
        service: "auditor",
        gpus: 8,
        ttlSeconds: null,
        queue: false,
        webhookUrl: null,
      };
      return recorded(daemon, "auditor", { what: "allocate", ask, key: null }, this.history.calls);
    };
    const { body } = await eventually(takeAll, ({ status }) => status === 200);
    await recorded(daemon, "auditor", { what: "release", id: body.id, token: body.fencing_token }, this.history.calls);
    await eventually(
      async () => countPending(this.#folder),
      (pending) => pending === 0,
      LONGEST_BACKOFF_MS,
    );
    await daemon.end("SIGKILL");
    this.#lookBack();
    const statuses = new Set(this.history.survivors.at(-1)?.records.map(({ status }) => status));
    expect(statuses).toEqual(new Set(["ended"]));
  }

  async remove(): Promise<void> {
    await this.#last?.end("SIGKILL");
    this.#last?.removeFolder();
    await this.#receiver.stop();
  }
}

test.skipIf(!isBuilt)(
  `${CYCLES} times killed under load: nothing acknowledged is lost, nothing is doubled (needs the built program)`,
  { timeout: 60_000 + CYCLES * 5_000 },
  async () => {
    console.log(`SEED=${SEED}`);
    const deaths = new Map<string, number>();
    let calls = 0;
    const files = Array.from({ length: Math.ceil(CYCLES / KILLS_PER_FILE) }, (_, n) => n).values();
    const lane = async () => {
      // Both lanes draw from one iterator, so each file goes to one of them.
      for (const n of files) {
        const config = n % 3 === 2 ? CONFIG : CONFIG + UNVERIFIED;
        const file = new DoomedFile(await Receiver.start(), seededRandom(SEED + n * 1_000_000), config);
        try {
          for (let kill = n * KILLS_PER_FILE; kill < Math.min((n + 1) * KILLS_PER_FILE, CYCLES); kill++)
            await file.killOnce();
          await file.settle();
        } finally {
          await file.remove();
        }
        calls += file.history.calls.length;
        for (const death of file.deaths) deaths.set(death, (deaths.get(death) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    console.log(`${calls} calls; died ${JSON.stringify(Object.fromEntries([...deaths].sort()))}`);
    expect(calls, "too few calls to prove anything").toBeGreaterThan(CYCLES * 10);
    if (CYCLES < CYCLES_TO_SEE_ALL) return;
    const places = [...deaths.keys()].join();
    for (const place of [...CRASH_POINTS, "random"]) expect(places).toContain(place);
  },
);
