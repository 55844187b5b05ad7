/** That an answer waits for the disk, seen from outside: the system's own account of what the built daemon did. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon, temporaryFolder } from "../e2e/daemon.ts";
import { canTrace, readTrace, traced } from "./strace.ts";

const CALLERS = 8;
const ROUNDS = 5;

/** The ids in answers that grant or queue, each with whether it was on disk when the answer was sent. */
function answersIn(trace: string, database: string): { id: string; synced: boolean }[] {
  const answers: { id: string; synced: boolean }[] = [];
  const synced: string[] = [];
  const pending: string[] = [];
  for (const operation of readTrace(trace, database)) {
    if (operation.type === "write" && operation.file === "-wal") {
      pending.push(Buffer.from(operation.bytes).toString("latin1"));
    } else if (operation.type === "sync" && operation.file === "-wal") synced.push(...pending.splice(0));
    else if (operation.type === "sent" && /^HTTP\/1\.1 20[02] /.test(operation.text)) {
      const id = /"id":"(caller-\d-[^"]+)"/.exec(operation.text)?.[1];
      if (id !== undefined) answers.push({ id, synced: synced.some((bytes) => bytes.includes(id)) });
    }
  }
  return answers;
}

test.skipIf(!isBuilt || !canTrace)(
  "every grant and every place in the queue is synced to disk before its answer is sent (needs the built program and strace)",
  { timeout: 120_000 },
  async () => {
    const folder = temporaryFolder();
    const trace = join(folder, "trace");
    const config = "storage:\n  path: x.db\nmonitoring:\n  refresh_interval: 1h\n  stale_after: 2h\n";
    const daemon = await startDaemon({ folder, config, simulate: "h100x8", under: traced(trace, true) });
    onTestFinished(async () => {
      await daemon.end("SIGKILL");
      daemon.removeFolder();
    });
    await eventually(
      () => daemon.call("GET", "/readyz"),
      ({ status }) => status === 200,
    );
    const callers = Array.from({ length: CALLERS }, async (_, i) => {
      const statuses: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        // Every other one asks for more than there is, with somebody to tell: it waits.
        const asked = { service_name: `caller-${i}`, required_gpus: i % 2 === 0 ? 1 : 8 };
        const { status, body } = await daemon.allocate({ ...asked, webhook_url: "http://127.0.0.1:9/hook" });
        statuses.push(status);
        await daemon.release(body.id);
      }
      return statuses;
    });
    const statuses = (await Promise.all(callers)).flat();
    expect(new Set(statuses)).toEqual(new Set([200, 202]));
    await daemon.end("SIGTERM");
    // strace ends a little after what it traced.
    const thread = new RegExp(`^${daemon.process.pid} +\\+\\+\\+ exited`, "m");
    await eventually(
      async () => thread.test(readFileSync(trace, "latin1")),
      (ended) => ended,
    );

    const answers = answersIn(trace, join(folder, "x.db"));
    expect(new Set(answers.map(({ id }) => id)).size).toBe(CALLERS * ROUNDS);
    expect(answers.filter(({ synced }) => !synced)).toEqual([]);
  },
);
