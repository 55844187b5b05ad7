import { Agent, request } from "undici";
import { afterEach, expect, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "./daemon.ts";

const daemons: TestDaemon[] = [];
afterEach(async () => {
  for (const daemon of daemons.splice(0)) {
    await daemon.end("SIGKILL");
    daemon.removeFolder();
  }
});
async function start(config = "") {
  const daemon = await startDaemon({ config });
  daemons.push(daemon);
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  return daemon;
}

test.skipIf(!isBuilt)(
  "50 parallel allocates on 8 GPUs: 8 are granted, 42 queue, no GPU twice (needs the built program)",
  async () => {
    const daemon = await start();
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => daemon.allocate({ service_name: `s${i}` })));
    const granted = answers.filter(({ status }) => status === 200);
    expect(granted).toHaveLength(8);
    expect(answers.filter(({ status }) => status === 202)).toHaveLength(42);
    expect(new Set(granted.flatMap(({ body }) => body.gpu_uuids)).size).toBe(8);
    const positions = answers.filter(({ status }) => status === 202).map(({ body }) => body.position);
    expect(new Set(positions).size).toBe(42);
  },
);

interface Held {
  readonly from: number;
  /** When its release was sent: until then nobody else may have had the GPU. */
  to: number;
}

const CLIENTS = 200;
const SECONDS = 20;
const POLLS = 20;

test.skipIf(!isBuilt)(
  `${CLIENTS} clients hammering for ${SECONDS} s: no GPU in two leases, no 5xx but a full queue, no lost request (needs the built program)`,
  { timeout: 120_000 },
  async () => {
    const daemon = await start(
      "scheduler:\n  max_queue_size: 1000\nlimits:\n  address:\n    requests_per_second: null\n",
    );
    const agent = new Agent({ connections: CLIENTS, pipelining: 1 });
    const held = new Map<string, Held[]>();
    const statuses = new Map<number, number>();
    const surprises: string[] = [];
    const mine = new Set<string>();
    const end = performance.now() + SECONDS * 1_000;

    const call = async (method: "GET" | "POST" | "DELETE", path: string, body?: unknown) => {
      const answer = await request(daemon.url + path, {
        method,
        dispatcher: agent,
        ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
      });
      statuses.set(answer.statusCode, (statuses.get(answer.statusCode) ?? 0) + 1);
      // biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely by tests.
      return { status: answer.statusCode, body: (await answer.body.json()) as any };
    };
    const expectStatus = (what: string, { status, body }: { status: number; body: unknown }, ...allowed: number[]) => {
      if (!allowed.includes(status)) surprises.push(`${what}: ${status} ${JSON.stringify(body)}`);
    };
    const note = (body: { gpu_uuids: string[] }) =>
      body.gpu_uuids.map((uuid) => {
        const interval = { from: performance.now(), to: Number.POSITIVE_INFINITY };
        const list = held.get(uuid) ?? [];
        held.set(uuid, [...list, interval]);
        return interval;
      });

    const client = async (n: number) => {
      let round = n;
      while (performance.now() < end) {
        round = (round * 1_103_515_245 + 12_345) % 2_147_483_648;
        const answer = await call("POST", "/gpu/allocate", {
          service_name: `client-${n}`,
          required_gpus: 1 + (round % 10 === 0 ? 1 : 0),
          priority: 1 + (round % 10),
        });
        expectStatus("allocate", answer, 200, 202);
        const { id } = answer.body;
        mine.add(id);
        let grant = answer.status === 200 ? answer.body : null;
        // One client in two waits a little for its turn; the others change their minds.
        for (let poll = 0; grant === null && poll < (round % 2) * POLLS; poll++) {
          await new Promise((resolve) => setTimeout(resolve, 10));
          const read = await call("GET", `/gpu/allocations/${id}`);
          expectStatus("read", read, 200);
          if (read.body.status === "leased") grant = read.body;
        }
        if (grant !== null) {
          const intervals = note(grant);
          if (round % 3 === 0) expectStatus("renew", await call("POST", `/gpu/allocations/${id}/renew`), 200);
          for (const interval of intervals) interval.to = performance.now();
          expectStatus("release", await call("POST", "/gpu/release", { allocation_id: id }), 200);
          expectStatus("second release", await call("POST", "/gpu/release", { allocation_id: id }), 200);
          expectStatus("late renew", await call("POST", `/gpu/allocations/${id}/renew`), 409);
        } else {
          expectStatus("cancel", await call("DELETE", `/gpu/allocations/${id}`), 200);
          expectStatus("read", await call("GET", `/gpu/allocations/${id}`), 200);
        }
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, n) => client(n)));

    expect(surprises.slice(0, 5)).toEqual([]);
    expect([...statuses.keys()].filter((status) => status >= 500)).toEqual([]);
    const leases = [...held.values()].reduce((sum, intervals) => sum + intervals.length, 0);
    expect(leases, "too few leases to prove anything").toBeGreaterThan(50);
    for (const [uuid, intervals] of held) {
      intervals.sort((a, b) => a.from - b.from);
      for (let i = 1; i < intervals.length; i++) {
        const overlap = (intervals[i - 1] as Held).to > (intervals[i] as Held).from;
        expect(overlap, `${uuid} was in two leases at once`).toBe(false);
      }
    }
    for (const id of [...mine].slice(-200)) {
      expect((await call("GET", `/gpu/allocations/${id}`)).body.status, id).toBe("ended");
    }
    const list = await call("GET", "/gpu/list");
    expect(list.body.allocations).toEqual([]);
    expect(list.body.queue).toEqual([]);
    await agent.close();
    console.log(
      `${mine.size} requests, ${leases} GPUs leased, statuses ${JSON.stringify(Object.fromEntries(statuses))}`,
    );
  },
);
