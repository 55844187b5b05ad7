/** Asking for a lease that ends with `gpuo run`, where the daemon cannot see it. */
import { expect, onTestFinished, test } from "vitest";
import { clientOf } from "../../src/cli/connect.ts";
import { acquire } from "../../src/cli/run/acquire.ts";
import { Voice } from "../../src/cli/run/voice.ts";
import { answer, refuse, type Script, scripted } from "../client/server.ts";

const BOUND = {
  service_name: "job",
  ttl: "10m",
  bind_pid: true,
  workload_data: { model: "m", pid: 1, pid_start_ticks: 7 },
};
const REFUSALS: [string, Script][] = [
  ["that it does not see", (response) => refuse(response, 422, "pid-not-visible")],
  // In a container gpuo may be number 1, which is init on the host.
  [
    "that may not be bound",
    (response) =>
      answer(response, 422, { code: "invalid-request", errors: [{ path: "workload_data.pid", message: "no" }] }),
  ],
  [
    "since it binds none",
    (response) =>
      answer(response, 422, { code: "invalid-request", errors: [{ path: "bind_pid", message: "unknown" }] }),
  ],
];

test.each(REFUSALS)("a daemon that refuses a process %s is asked again without it", async (_, refusal) => {
  const { url, asked, close } = await scripted((response, one, count) => {
    if (count === 1) return refusal(response, one, count);
    answer(response, 200, { status: "allocated", id: "job-1", ttl_seconds: 120 });
  });
  onTestFinished(close);
  const clientWith = (patienceMs: number) => clientOf({ url, key: null }, patienceMs);
  const waiting = { waitMs: "forever", giveUp: new AbortController().signal } as const;
  const { lease } = await acquire(BOUND, "2m", clientWith, waiting, new Voice(true));
  expect(lease.id).toBe("job-1");
  expect(asked.map(({ body }) => JSON.parse(body))).toEqual([
    BOUND,
    { service_name: "job", ttl: "2m", workload_data: { model: "m" } },
  ]);
});
