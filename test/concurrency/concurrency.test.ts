/**
 * Many clients at once on the built daemon: whatever they were told, and in whatever order their calls were taken, must
 * have been possible one call at a time (linearizability.ts) on a host as the contract describes it (host-model.ts).
 */
import { Agent } from "undici";
import { afterEach, expect, test } from "vitest";
import { seededRandom } from "../../src/monitor/simulated/random.ts";
import { writePreload } from "../crash/preload.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "../e2e/daemon.ts";
import { SEED } from "../seed.ts";
import { HostModel } from "./host-model.ts";
import { linearize, type Operation } from "./linearizability.ts";
import { Recorder } from "./recorder.ts";
import type { Step } from "./steps.ts";

const CLIENTS = 32;
/** Short, so that the search is exact; many, so that it sees much. */
const CALLS_PER_CLIENT = 6;
const HISTORIES = Number(process.env.HISTORIES ?? 40);

/** Nothing happens by time, and no GPU is held for anybody. */
const CONFIG = `
# Strictly first come first served, as the model has it: which wide request goes first is no question of concurrency.
scheduler: {max_queue_size: 10000, abandon_after: 1h, reserve_after: 1h, prefer_wide: false}
monitoring: {refresh_interval: 1h, stale_after: 2h}
allocator: {verify_release: never}
storage: {path: host.db}
`;

const daemons: TestDaemon[] = [];
afterEach(async () => {
  for (const daemon of daemons.splice(0)) {
    await daemon.end("SIGKILL");
    daemon.removeFolder();
  }
});

async function checkHistories(slowTurns: boolean): Promise<void> {
  const folder = temporaryFolder();
  const slow = slowTurns ? { preload: writePreload(folder), env: { SLOW_TURNS: "1" } } : {};
  const daemon = await startDaemon({ folder, config: CONFIG, ...slow });
  daemons.push(daemon);
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  const { body } = await daemon.call("GET", "/gpu/status");
  const gpus: string[] = body.gpus.map(({ uuid }: { uuid: string }) => uuid);
  const agent = new Agent({ connections: CLIENTS, pipelining: 1 });
  let operations = 0;
  let overlapping = 0;
  try {
    for (let n = 0; n < HISTORIES; n++) {
      const recorder = new Recorder(daemon.url, agent, seededRandom(SEED + n * 1_000_000));
      await Promise.all(Array.from({ length: CLIENTS }, () => recorder.act(CALLS_PER_CLIENT)));
      await recorder.settle(CLIENTS);
      const { history } = recorder;
      const checked = linearize(history, new HostModel(history, gpus));
      if (checked.verdict !== "linearizable") throw new Error(`history ${n} is ${checked.verdict}:\n${shown(checked)}`);
      operations += history.length;
      overlapping += history.filter((operation) => history.some((other) => overlap(operation, other))).length;
    }
  } finally {
    await agent.close();
  }
  console.log(`SEED=${SEED}: ${operations} operations, ${overlapping} of them overlap others`);
  expect(overlapping, "too little at once to prove anything").toBeGreaterThan(operations / 2);
}

function overlap(a: Operation<Step>, b: Operation<Step>): boolean {
  return a !== b && a.invokedAt <= b.answeredAt && b.invokedAt <= a.answeredAt;
}

/** The end of the longest order that could be, and what cannot follow it. */
function shown({ order, left }: { order: readonly Operation<Step>[]; left: readonly Operation<Step>[] }): string {
  const line = ({ step, invokedAt, answeredAt }: Operation<Step>) =>
    `${invokedAt.toFixed(2)} to ${answeredAt.toFixed(2)}: ${JSON.stringify(step)}`;
  return ["...", ...order.slice(-20).map(line), "and then none of these:", ...left.slice(0, 20).map(line)].join("\n");
}

const title = `${HISTORIES} histories of ${CLIENTS} clients at once`;

test.skipIf(!isBuilt)(`${title} are linearizable (needs the built program)`, { timeout: 180_000 }, () =>
  checkHistories(false),
);

test.skipIf(!isBuilt)(
  `${title} are linearizable when turns are slow, and gather many (needs the built program)`,
  { timeout: 180_000 },
  () => checkHistories(true),
);
