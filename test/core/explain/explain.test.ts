import { expect, test } from "vitest";
import { explain } from "../../../src/core/explain/explain.ts";
import { h100, minutes, process, SimulatedHost, t4 } from "../../simulation/simulated-host.ts";

const why = (host: SimulatedHost, id: string) => explain(host.allocation(id).request, host.state, host.now).reason;

test("who waits is told of each GPU why not, and what it waits for in one sentence", () => {
  const gpus = [h100("GPU-a"), h100("GPU-b"), h100("GPU-c"), h100("GPU-d"), t4("GPU-e"), t4("GPU-f")];
  const host = new SimulatedHost(gpus);
  host.gpu("GPU-c", { processes: [process(1)], memoryUsedMib: 9_000 });
  host.gpu("GPU-d", { errorValues: { "fb_memory_usage/used": "GPU is lost" }, memoryUsedMib: null });
  host.observe();
  host.submit({ preferredGpus: ["GPU-a"] });
  const id = host.submit({ requiredGpus: 2, minMemoryMib: 40_000 });
  expect(host.whyQueued(id)).toEqual({
    "GPU-a": "held",
    "GPU-b": null,
    "GPU-c": "occupied",
    "GPU-d": "lost",
    "GPU-e": "memory",
    "GPU-f": "memory",
  });
  expect(why(host, id)).toBe(
    "waiting for 2 GPUs with 40000 MiB: 1 of 6 can be had now " +
      "(1 leased, 1 used by a process of no lease, 1 lost, 2 with too little memory)",
  );
});

test("who has GPUs held for it is told so, and who is kept from them that they are reserved", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  host.submit({ preferredGpus: ["GPU-a"], maxDurationMs: minutes(60) });
  const pair = host.submit({ requiredGpus: 2 });
  const long = host.submit({ maxDurationMs: minutes(90) });
  expect(host.whyQueued(pair)).toEqual({ "GPU-a": "held", "GPU-b": null });
  expect(why(host, pair)).toBe(
    "waiting for 2 GPUs with 4096 MiB: 1 of 2 can be had now (1 leased); what it can use is held for it until it has enough",
  );
  expect(host.whyQueued(long)).toEqual({ "GPU-a": "held", "GPU-b": "reserved" });
  expect(why(host, long)).toContain("0 of 2 can be had now (1 leased, 1 reserved for an earlier request)");
});

test("a held GPU is not reserved for one that could borrow it, if it can be had for its time", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), t4("GPU-c")], { reserveAfterMs: 0 });
  host.submit({ preferredGpus: ["GPU-a"], maxDurationMs: minutes(60) });
  host.submit({ preferredGpus: ["GPU-c"] });
  host.submit({ requiredGpus: 2, gpuModel: "H100" });
  const short = host.submit({ requiredGpus: 2, maxDurationMs: minutes(10) });
  const long = host.submit({ requiredGpus: 2 });
  expect(host.whyQueued(short)).toMatchObject({ "GPU-b": null, "GPU-c": "held" });
  expect(host.whyQueued(long)).toMatchObject({ "GPU-b": "reserved" });
});

test("who waits for more than the ends of leases is told how many GPUs must become usable", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c")], { reserveAfterMs: 0 });
  host.gpu("GPU-c", { processes: [process(1)], memoryUsedMib: 9_000 });
  host.observe();
  host.submit();
  const three = host.submit({ requiredGpus: 3 });
  expect(why(host, three)).toMatch(/; the ends of leases alone will not do: 1 more GPU must become usable$/);
});

test("who waits while the host is drained is told so, by whom and why, and not that GPUs must become usable", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const actor = { principal: "ada", admin: true };
  host.do({ type: "drain", gpu: null, leaveMs: null, reason: "power is measured", actor });
  const waiting = host.submit();
  expect(why(host, waiting)).toMatch(
    /0 of 1 can be had now \(1 cordoned\); nothing is granted, as the host is drained by ada: power is measured$/,
  );
});

test("a head whose start nobody knows is told for how long others go before it, and when its patience is over", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { patienceMs: minutes(90) });
  const webhookUrl = "http://127.0.0.1:9/hook";
  host.submit({ preferredGpus: ["GPU-a"] });
  const pair = host.submit({ requiredGpus: 2, webhookUrl });
  host.advance(minutes(1));
  const asked = "waiting for 2 GPUs with 4096 MiB: 1 of 2 can be had now (1 leased)";
  expect(why(host, pair)).toBe(
    `${asked}; nobody can say when the leases end that it waits for, so others that fit go before it for 1h30m more at most`,
  );
  host.advance(minutes(90));
  expect(why(host, pair)).toBe(
    `${asked}; its patience is over: GPUs are held for it once it waits only for those that went before it`,
  );
});

test("one that a wider request went before is told so, and from when on none does", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { patienceMs: minutes(90) });
  const all = host.submit({ requiredGpus: 2 });
  const one = host.submit();
  const wider = host.submit({ requiredGpus: 2 });
  host.release(all);
  host.claim(wider);
  const asked = "waiting for 1 GPU with 4096 MiB: 0 of 2 can be had now (2 leased)";
  // The clock of a test starts at 08:00 UTC.
  expect(why(host, one)).toBe(
    `${asked}; a wider request went first; it goes before wider ones from 09:30 UTC (in 1h30m) on at the latest`,
  );
  host.advance(minutes(90));
  expect(why(host, one)).toBe(
    `${asked}; its patience is over: GPUs are held for it once it waits only for those that went before it`,
  );
});

test("between its patience and the time for which others still go, a head is told of both", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { patienceMs: minutes(90), holdLate: true });
  const webhookUrl = "http://127.0.0.1:9/hook";
  const early = host.submit();
  host.advance(minutes(45));
  host.release(early);
  host.submit({ preferredGpus: ["GPU-a"] });
  const pair = host.submit({ requiredGpus: 2, webhookUrl });
  host.advance(minutes(1));
  expect(why(host, pair)).toMatch(/others that fit go before it for 2h15m more at most$/);
  host.advance(minutes(95));
  expect(why(host, pair)).toMatch(
    /; its patience is over: no wider request goes before it, and from 11:01 UTC \(in 40m\) on GPUs are held for it once it waits only for those that went before it$/,
  );
});
