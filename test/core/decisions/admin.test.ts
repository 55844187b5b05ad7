/** What an admin decides about GPUs and other people's leases. */
import { expect, test } from "vitest";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { blockOf } from "../../../src/core/host/condition.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import { ADMIN, h100, process, refusal, SimulatedHost, seconds } from "../../simulation/simulated-host.ts";

type Verb = "cordon" | "uncordon" | "clear-quarantine" | "remove-gpu";

function say(host: SimulatedHost, type: Verb, gpu: string, reason = "because") {
  return host.do({ type, gpu, reason, actor: ADMIN });
}

function blockAt(host: SimulatedHost, uuid: string) {
  const gpu = host.state.gpus.get(uuid);
  return gpu === undefined ? undefined : blockOf(gpu, host.state, host.now);
}

test("a cordoned GPU gets no new lease, says why, and serves who waits as soon as it is uncordoned", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  say(host, "cordon", "0", "fan replaced on Friday");
  const id = host.submit();
  expect(host.whyQueued(id)).toEqual({ "GPU-a": "cordoned" });
  expect(blockAt(host, "GPU-a")).toEqual({
    block: "cordoned",
    detail: "fan replaced on Friday (anonymous)",
    since: host.now,
  });
  say(host, "uncordon", "GPU-a");
  expect(host.gpusOf(id)).toEqual(["GPU-a"]);
});

test("a lease on a cordoned GPU goes on; after it the GPU stays empty, also over a restart", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit({ ttlMs: seconds(60) });
  say(host, "cordon", "GPU-a");
  host.renew(id);
  expect(host.allocation(id).status).toBe("leased");
  expect(blockAt(host, "GPU-a")?.block).toBe("held");
  host.release(id);
  const next = host.submit();
  host.do({ type: "resume", bootId: "boot-2", fencingFloor: host.now });
  host.observe();
  expect(host.whyQueued(next)).toEqual({ "GPU-a": "cordoned" });
  const replayed = host.log.reduce(evolve, emptyHost(host.state.policy));
  expect(replayed.gpus.values()).toEqual(host.state.gpus.values());
});

test("nothing is held for a request that only a cordoned GPU could complete", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  say(host, "cordon", "GPU-a");
  const two = host.submit({ requiredGpus: 2 });
  const one = host.submit();
  expect(host.gpusOf(one)).toEqual(["GPU-b"]);
  expect(host.allocation(two).status).toBe("queued");
});

test("a second cordon takes the new reason; what is so already is not said twice", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  say(host, "cordon", "GPU-a", "one");
  host.advance(seconds(1));
  say(host, "cordon", "GPU-a", "two");
  expect(host.state.gpus.get("GPU-a")?.cordon).toEqual({ at: host.now, by: "anonymous", reason: "two", drainBy: null });
  expect(say(host, "uncordon", "GPU-a")).toHaveLength(1);
  expect(say(host, "uncordon", "GPU-a")).toEqual([]);
  expect(say(host, "clear-quarantine", "GPU-a")).toEqual([]);
});

test("a cleared quarantine frees the GPU, unless what is seen there still speaks against it", () => {
  const host = new SimulatedHost([h100("GPU-a")], { reclaimTimeoutMs: seconds(10) });
  const id = host.submit();
  host.gpu("GPU-a", { processes: [process(7)], memoryUsedMib: 9_000 });
  host.advance(seconds(5));
  host.release(id);
  host.advance(seconds(11));
  expect(blockAt(host, "GPU-a")?.block).toBe("quarantined");
  const next = host.submit();
  say(host, "clear-quarantine", "GPU-a", "it is a daemon of ours");
  expect(host.whyQueued(next)).toEqual({ "GPU-a": "occupied" });
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 4 });
  host.observe();
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

test("the reason of a quarantine is what was seen: processes and memory, or that nothing was read", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reclaimTimeoutMs: seconds(10) });
  const ids = [host.submit(), host.submit()];
  host.gpu("GPU-a", { processes: [process(7, { usedMemoryMib: 9_000 })], memoryUsedMib: 9_000 });
  host.gpu("GPU-b", { processes: [process(8)], memoryUsedMib: 9_000 });
  host.advance(seconds(5));
  for (const id of ids) host.release(id);
  // From here on the driver does not show the second one.
  (host.devices[1] as { present: boolean }).present = false;
  host.advance(seconds(11));
  const reason = (uuid: string) => {
    const hold = host.state.gpus.get(uuid)?.hold;
    return hold?.kind === "quarantined" ? hold.reason : hold?.kind;
  };
  expect(reason("GPU-a")).toBe("not empty after its lease ended: process 7, 9000 MiB in use");
  expect(reason("GPU-b")).toBe("not seen empty: no reading of it has been taken since its lease ended");
});

test("a GPU that is gone for good is struck off, and no longer counts for what could ever fit", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  expect(refusal(() => say(host, "remove-gpu", "GPU-b"))).toBe("gpu-in-use");
  const waiting = host.submit({ requiredGpus: 2 });
  host.release(waiting);
  (host.devices[1] as { present: boolean }).present = false;
  host.observe();
  const both = host.submit({ requiredGpus: 2 });
  expect(host.allocation(both).status).toBe("queued");
  say(host, "remove-gpu", "GPU-b", "sent back");
  expect(refusal(() => host.submit({ requiredGpus: 2 }))).toBe("request-never-fits");
  expect(refusal(() => say(host, "cordon", "GPU-b"))).toBe("gpu-not-found");
  host.advance(seconds(10));
  expect(host.state.gpus.size).toBe(1);
  const replayed = host.log.reduce(evolve, emptyHost(host.state.policy));
  expect(replayed.gpus.values()).toEqual(host.state.gpus.values());
});

test("a lost GPU is not struck off from under its lease", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  (host.devices[0] as { present: boolean }).present = false;
  host.observe();
  expect(refusal(() => say(host, "remove-gpu", "GPU-a"))).toBe("gpu-in-use");
  expect(host.allocation(id).status).toBe("leased");
});

test("an index means the GPU that has it now, not one that had it before it vanished", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  (host.devices[0] as { present: boolean }).present = false;
  host.gpu("GPU-b", { index: 0 });
  host.observe();
  say(host, "cordon", "0");
  expect(host.state.gpus.get("GPU-b")?.cordon).not.toBeNull();
  expect(host.state.gpus.get("GPU-a")?.cordon).toBeNull();
  expect(refusal(() => say(host, "cordon", "7"))).toBe("gpu-not-found");
});

test("a revoked lease ends with its reason, and the next in line is served; a waiting request is taken out", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const bob = { principal: "bob", admin: false };
  const held = host.submit({ actor: bob });
  const next = host.submit();
  const last = host.submit();
  host.do({ type: "revoke", id: held, reason: "runaway job", actor: ADMIN });
  host.do({ type: "revoke", id: last, reason: "not today", actor: ADMIN });
  expect(host.allocation(held)).toMatchObject({
    status: "ended",
    outcome: { reason: "revoked", detail: "runaway job (anonymous)" },
  });
  expect(host.endReason(last)).toBe("revoked");
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
  expect(refusal(() => host.do({ type: "revoke", id: held, reason: "again", actor: ADMIN }))).toBe(
    "allocation-not-found",
  );
});

test("a cordon stays with its GPU when the index moves", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  say(host, "cordon", "GPU-a");
  host.gpu("GPU-a", { index: 1 });
  host.gpu("GPU-b", { index: 0 });
  host.observe();
  expect(host.state.gpus.get("GPU-a")).toMatchObject({ index: 1, cordon: { reason: "because" } });
});
