/**
 * The built daemon on a real file, killed with SIGKILL at random instants under load. The clients keep their own
 * history of what they were answered; after every restart it must hold.
 */
import { expect, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "../e2e/daemon.ts";

const CYCLES = Number(process.env.KILL_CYCLES ?? 20);
const CLIENTS = 8;
const LONGEST_LIFE_MS = 150;

/** What one client knows of one request. `maybe`: a call was under way when the daemon died. */
interface Known {
  readonly id: string;
  readonly gpus: readonly string[];
  readonly token: number | null;
  state: "leased" | "queued" | "ended";
  maybe: "ended" | null;
}

/** Small and seeded: a failing run repeats with the same choices, if not with the same timing. */
function lehmer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

async function client(daemon: TestDaemon, known: Map<string, Known>, random: () => number): Promise<void> {
  for (;;) {
    const mine = [...known.values()].filter(({ state, maybe }) => state !== "ended" && maybe === null);
    const pick = mine[Math.floor(random() * mine.length)];
    if (pick !== undefined && (mine.length > 12 || random() < 0.5)) {
      pick.maybe = "ended";
      const { status } = await daemon.release(pick.id);
      expect(status).toBe(200);
      pick.state = "ended";
      pick.maybe = null;
      continue;
    }
    const { status, body } = await daemon.allocate({
      service_name: `client-${Math.floor(random() * 5)}`,
      required_gpus: 1 + Math.floor(random() * 2),
      // Never reached: the grant from the queue stays an offer.
      webhook_url: "http://127.0.0.1:9/hook",
    });
    expect([200, 202]).toContain(status);
    known.set(body.id, {
      id: body.id,
      gpus: body.gpu_uuids ?? [],
      token: body.fencing_token ?? null,
      state: status === 200 ? "leased" : "queued",
      maybe: null,
    });
  }
}

async function check(daemon: TestDaemon, known: Map<string, Known>): Promise<void> {
  const { body } = await daemon.call("GET", "/gpu/list");
  const live = new Map<string, { id: string; gpu_uuids: string[]; fencing_token: number }>();
  const holders = new Map<string, string>();
  const tokens = new Set<number>();
  for (const allocation of body.allocations) {
    live.set(allocation.id, allocation);
    expect(tokens.has(allocation.fencing_token), "a fencing token stands twice").toBe(false);
    tokens.add(allocation.fencing_token);
    for (const uuid of allocation.gpu_uuids) {
      expect(holders.get(uuid), `${uuid} is in two leases`).toBeUndefined();
      holders.set(uuid, allocation.id);
    }
  }
  const waiting = new Set(body.queue.map(({ id }: { id: string }) => id));
  for (const request of known.values()) {
    const lease = live.get(request.id);
    if (request.state === "ended") {
      expect(lease !== undefined || waiting.has(request.id), `${request.id} was released and lives`).toBe(false);
      continue;
    }
    const alive = lease !== undefined || waiting.has(request.id);
    if (!alive && request.maybe === "ended") {
      request.state = "ended";
      request.maybe = null;
      continue;
    }
    expect(alive, `${request.id} was acknowledged as ${request.state} and is gone`).toBe(true);
    request.maybe = null;
    if (request.state === "leased") {
      expect(lease?.gpu_uuids).toEqual(request.gpus);
      expect(lease?.fencing_token).toBe(request.token);
    }
  }
}

test.skipIf(!isBuilt)(
  `${CYCLES} times killed under load: nothing acknowledged is lost, nothing is doubled (needs the built program)`,
  { timeout: 30_000 + CYCLES * 5_000 },
  async () => {
    const folder = temporaryFolder();
    const config =
      "scheduler:\n  max_queue_size: 10000\n  claim_timeout: 1h\nmonitoring:\n  refresh_interval: 1h\n  stale_after: 2h\n";
    const seed = Number(process.env.KILL_SEED ?? Date.now() % 2_147_483_646) + 1;
    console.log(`KILL_SEED=${seed - 1}`);
    const random = lehmer(seed);
    const known = new Map<string, Known>();
    let calls = 0;
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const daemon = await startDaemon({ folder, config });
      try {
        await check(daemon, known);
        await eventually(
          () => daemon.call("GET", "/readyz"),
          ({ status }) => status === 200,
        );
        const before = known.size;
        const clients = Array.from({ length: CLIENTS }, () => client(daemon, known, random));
        const dying = new Promise((resolve) => setTimeout(resolve, random() * LONGEST_LIFE_MS)).then(() =>
          daemon.end("SIGKILL"),
        );
        // A client ends when its connection breaks; anything but a broken connection is a finding.
        const ends = await Promise.allSettled(clients);
        await dying;
        for (const end of ends) {
          if (end.status === "rejected" && !(end.reason instanceof TypeError)) throw end.reason;
        }
        calls += known.size - before;
      } finally {
        await daemon.end("SIGKILL");
      }
    }
    const last = await startDaemon({ folder, config });
    try {
      await check(last, known);
    } finally {
      await last.end("SIGKILL");
      last.removeFolder();
    }
    expect(calls, "too few requests to prove anything").toBeGreaterThan(CYCLES);
  },
);
