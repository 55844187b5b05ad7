import { expect, test } from "vitest";
import type { Command } from "../../../src/core/decisions/commands.ts";
import type { Topology } from "../../../src/core/model/device.ts";
import { commandInWords, explainDecision, type Hindsight } from "../../../src/core/replay/hindsight.ts";
import { ADMIN, ASK, type Ask, h100, minutes, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";

/** What is said afterwards of what `act` did, all of it in one decision. */
function hindsightOf(host: SimulatedHost, act: () => void): Hindsight {
  const before = host.state;
  const logged = host.log.length;
  act();
  return explainDecision({ before, after: host.state, events: host.log.slice(logged) }, host.now);
}

function submitted(host: SimulatedHost, ask: Ask): Hindsight {
  return hindsightOf(host, () => host.submit(ask));
}

test("each GPU is told as it stood when the line was served, with why it could not be had", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), t4("GPU-c")]);
  host.submit({ preferredGpus: ["GPU-a"] });
  host.do({ type: "cordon", gpu: "GPU-b", reason: "dusty", actor: ADMIN });
  host.monitoring = false;
  host.advance(seconds(3));
  const { gpus } = submitted(host, {});
  expect(gpus.map(({ uuid, standing, detail }) => [uuid, standing, detail])).toEqual([
    ["GPU-a", "held", expect.stringMatching(/^leased to svc-/)],
    ["GPU-b", "cordoned", "dusty (anonymous)"],
    ["GPU-c", "free", null],
  ]);
  expect(gpus[2]).toMatchObject({ memoryUsedMib: 4, memoryTotalMib: 15_360, readingAgeMs: 3_000 });
});

test.each<[string, Ask, string]>([
  ["preferred ones", { preferredGpus: ["1"] }, "GPU 1, out of 3 that were free and suited: its client prefers them"],
  ["the smallest", {}, "GPU 2, out of 3 that were free and suited: they are the smallest, so large ones stay whole"],
  ["the only ones", { requiredGpus: 3 }, "GPUs 0, 1, 2: no others were free and suited"],
  [
    "any of those that are alike",
    { minMemoryMib: 40_000 },
    "GPU 0, out of 2 that were free and suited: they are all alike, so by UUID",
  ],
])("a grant of %s says why it was these", (_which, ask, reason) => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), t4("GPU-c")]);
  expect(submitted(host, ask).queue).toMatchObject([{ outcome: "granted", reason }]);
});

test("a grant of several says that they are connected best, where that is known", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c")]);
  host.topology = BRIDGED;
  host.observe();
  expect(submitted(host, { requiredGpus: 2 }).queue).toMatchObject([
    { outcome: "granted", reason: "GPUs 1, 2, out of 3 that were free and suited: no set of them is connected better" },
  ]);
});

const BRIDGED: Topology = {
  gpus: ["GPU-a", "GPU-b", "GPU-c"].map((uuid) => ({ uuid, numaNodes: [0], cpuAffinity: null })),
  links: [
    [null, "SYS", "SYS"],
    ["SYS", null, "NV4"],
    ["SYS", "NV4", null],
  ],
};

test("who is granted past others, and who waits, hear why", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  host.submit({ maxDurationMs: minutes(60) });
  host.submit({ requiredGpus: 2 });
  const early = submitted(host, {});
  expect(early.queue).toMatchObject([
    { position: 1, gpus: 2, outcome: "waits", reason: expect.stringMatching(/^waiting for 2 GPUs/) },
    { position: 2, outcome: "granted", reason: expect.stringMatching(/has waited for reserve_after \(60 s\)$/) },
  ]);
  expect(early.events).toMatchObject(
    [/ is in line$/, /^GPU 1 leased to /].map((words) => expect.stringMatching(words)),
  );
  const [, , second] = [...host.state.allocations.values()];
  host.release(second?.request.id ?? "");
  host.observe();
  host.advance(minutes(2));
  expect(submitted(host, { maxDurationMs: minutes(1) }).queue).toMatchObject([
    { outcome: "waits" },
    { outcome: "granted", reason: expect.stringMatching(/it puts nobody off for whom GPUs are held$/) },
  ]);
});

test("what a workload is made of, and where its webhooks go, is not told", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const ask = { ...ASK, workloadData: { prompt: "very private" }, webhookUrl: "http://127.0.0.1:9/private" };
  const command: Command = { type: "allocate", id: "svc-1", ask, actor: ADMIN };
  const told = JSON.stringify([submitted(host, ask), commandInWords(command)]);
  expect(told).toContain("svc-");
  expect(told).not.toContain("private");
});

test("every command has its words", () => {
  const cordon: Command = { type: "cordon", gpu: "GPU-a", reason: "dusty", actor: ADMIN };
  expect(commandInWords(cordon)).toBe("cordon: gpu GPU-a, reason dusty, by anonymous");
  expect(commandInWords({ type: "tick" })).toBe("it was time to look at what is due");
  expect(
    commandInWords({ type: "allocate", id: "svc-1", ask: { ...ASK, requiredGpus: 1, priority: 3 }, actor: ADMIN }),
  ).toBe("anonymous asked for GPUs as svc (generic): 1 GPU, priority 3");
});
