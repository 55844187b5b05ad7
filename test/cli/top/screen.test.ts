/** What `gpuo top` shows of what there is no room for. */
import { expect, test } from "vitest";
import { Terminal } from "../../../src/cli/terminal.ts";
import { frame, SORTS } from "../../../src/cli/top/screen.ts";
import type { List } from "../../../src/client/types.ts";

const gpu = (id: number) => ({
  ...{ id, uuid: `GPU-${id}`, name: "H100", state: "free", holders: [], mig_devices: [], memory_used: 0 },
  ...{ memory_total: 81_559, utilization: 0, temperature: 30, power_draw: 70, since: null, reason: null },
});
const lease = (n: number) => ({ id: `lease-${n}`, service_name: "held", status: "leased", priority: 5, devices: [] });
const waiting = (n: number) => ({
  ...{ position: n, id: `waiter-${n}`, service_name: "waiter", required_gpus: 1, min_memory_mb: 4_096, priority: 5 },
  ...{ submitted_at: "2026-12-01T00:00:00Z", eta: null, reason: "waiting for 1 GPU" },
});
const times = <T>(count: number, make: (n: number) => T) => Array.from({ length: count }, (_, n) => make(n));
const list = {
  ...{ gpus: times(16, gpu), allocations: times(9, lease), queue: times(30, waiting) },
  ...{ simulated: false, drain: null, last_event_id: 1 },
} as unknown as List;

function shown(rows: number, chosen: number): readonly string[] {
  const view = { list, filter: "", sort: SORTS[0], chosen, note: null, rows };
  return frame(view, new Terminal(), 0).lines;
}

test("a screen that is too small for all shows of each table as much as of the others, and which part", () => {
  const lines = shown(24, 0);
  expect(lines).toHaveLength(24);
  const places = lines.filter((line) => / of \d+$/.test(line));
  expect(places).toEqual(["GPUs 1 to 5 of 16", "leases 1 to 5 of 9", "waiting 1 to 5 of 30"]);
});

test("what is chosen is among what is shown of its table", () => {
  for (const [chosen, id] of [
    [16 + 8, "lease-8"],
    [16 + 9 + 29, "waiter-29"],
  ] as const) {
    const marked = shown(24, chosen).filter((line) => line.includes("\x1b[7m"));
    expect(marked).toEqual([expect.stringContaining(id)]);
  }
});

test("a table that needs less leaves its room to the others, and a large screen shows all", () => {
  expect(shown(44, 0).filter((line) => / of \d+$/.test(line))).toEqual(["GPUs 1 to 13 of 16", "waiting 1 to 13 of 30"]);
  expect(shown(80, 0).some((line) => / of \d+$/.test(line))).toBe(false);
});

test("a tiny screen shows what is chosen", () => {
  const lines = shown(7, 16 + 9 + 3);
  expect(lines).toHaveLength(7);
  expect(lines.join("\n")).toContain("waiter-3");
});
