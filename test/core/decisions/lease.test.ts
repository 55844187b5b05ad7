import { expect, test } from "vitest";
import { h100, minutes, refusal, SimulatedHost, seconds } from "../../simulation/simulated-host.ts";

const BOB = { principal: "bob", admin: false };
const EVE = { principal: "eve", admin: false };

test("a newcomer gets a free GPU at once, as a lease", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  expect(host.allocation(id).status).toBe("leased");
  expect(host.gpusOf(id)).toEqual(["GPU-a"]);
});

test("a second exclusive request waits for the first to be released, then is offered the same GPU", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const first = host.submit();
  const second = host.submit();
  expect(host.whyQueued(second)).toEqual({ "GPU-a": "held" });
  host.release(first);
  expect(host.allocation(second).status).toBe("offered");
  expect(host.gpusOf(second)).toEqual(["GPU-a"]);
});

test("a queued request is granted the GPU whose lease just expired", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const train = host.submit({ ttlMs: minutes(10) });
  const infer = host.submit({ priority: 8 });
  host.advance(minutes(10) - 1);
  expect(host.allocation(train).status).toBe("leased");
  host.advance(1);
  expect(host.endReason(train)).toBe("expired");
  expect(host.gpusOf(infer)).toEqual(["GPU-a"]);
});

test("a renewal moves the end to now plus the TTL, and never past the hard end", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit({ ttlMs: minutes(10), maxDurationMs: minutes(25) });
  host.advance(minutes(9));
  host.renew(id);
  expect(host.lease(id)?.expiresAt).toBe(host.now + minutes(10));
  host.advance(minutes(9));
  host.renew(id);
  host.advance(minutes(7));
  expect(host.endReason(id)).toBe("max_duration");
});

test("a lease without a TTL can be renewed and has no end", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  host.renew(id);
  expect(host.lease(id)?.expiresAt).toBeNull();
  host.advance(minutes(60 * 24 * 30));
  expect(host.allocation(id).status).toBe("leased");
});

test("a request that states no max_duration gets the default one, and its lease ends then whatever is renewed", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { defaultMaxDurationMs: minutes(60) });
  const silent = host.submit({ ttlMs: minutes(40) });
  const stated = host.submit({ maxDurationMs: minutes(90) });
  expect(host.lease(stated)?.expiresAt).toBe(host.now + minutes(90));
  host.advance(minutes(30));
  host.renew(silent);
  expect(host.lease(silent)?.expiresAt).toBe(host.now + minutes(30));
  host.advance(minutes(30));
  expect(host.endReason(silent)).toBe("max_duration");
});

test("the estimated duration times the multiplier is the TTL unless one is given", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const estimated = host.submit({ workloadData: { estimated_duration: 60 } });
  const stated = host.submit({ workloadData: { estimated_duration: 60 }, ttlMs: seconds(30) });
  expect(host.lease(estimated)?.expiresAt).toBe(host.now + seconds(120));
  expect(host.lease(stated)?.expiresAt).toBe(host.now + seconds(30));
});

test("only the owner or an admin may release or renew", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit({ actor: BOB });
  expect(refusal(() => host.release(id, EVE))).toBe("not-owner");
  expect(refusal(() => host.renew(id, null, EVE))).toBe("not-owner");
  expect(host.allocation(id).status).toBe("leased");
  host.release(id, BOB);
  expect(host.endReason(id)).toBe("released");
});

test("a release by service ends its leases and cancels its waiting requests, and nobody else's", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const lease = host.submit({ serviceName: "ocr", actor: BOB });
  const neighbour = host.submit({ serviceName: "ocr-2", actor: BOB });
  const waiting = host.submit({ serviceName: "ocr", requiredGpus: 2, actor: BOB });
  const foreign = host.submit({ serviceName: "ocr", requiredGpus: 2, actor: EVE });
  host.do({ type: "release", id: null, serviceName: "ocr", fencingToken: null, actor: BOB });
  expect(host.endReason(lease)).toBe("released");
  expect(host.endReason(waiting)).toBe("cancelled");
  expect(host.allocation(neighbour).status).toBe("leased");
  expect(host.allocation(foreign).status).toBe("queued");
});

test("releasing a service that only others own touches nothing, and tells nothing of them", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const theirs = host.submit({ serviceName: "ocr", actor: BOB });
  const of = (serviceName: string) =>
    refusal(() => host.do({ type: "release", id: null, serviceName, fencingToken: null, actor: EVE }));
  expect(of("ocr")).toBeNull();
  expect(of("nothing")).toBeNull();
  expect(host.allocation(theirs).status).toBe("leased");
});

test("a stale fencing token is refused, and tokens only grow, over a restart too", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const first = host.submit();
  const token = host.lease(first)?.fencingToken ?? 0;
  expect(token).toBeGreaterThanOrEqual(host.now);
  expect(refusal(() => host.renew(first, token - 1))).toBe("fencing-token-mismatch");
  host.release(first);
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: token - 1_000 });
  const second = host.submit();
  expect(host.lease(second)?.fencingToken).toBeGreaterThan(token);
});

test("what waits has no fencing token: one that is named with it is refused, and one found by its service is cancelled", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const held = host.submit({ serviceName: "ocr", actor: BOB });
  const token = host.lease(held)?.fencingToken as number;
  const waiting = host.submit({ serviceName: "ocr", actor: BOB });
  expect(refusal(() => host.renew(waiting, token, BOB))).toBe("fencing-token-mismatch");
  const release = { type: "release", fencingToken: token, actor: BOB } as const;
  expect(refusal(() => host.do({ ...release, id: waiting, serviceName: null }))).toBe("fencing-token-mismatch");
  expect(host.allocation(waiting).status).toBe("queued");
  host.do({ ...release, id: null, serviceName: "ocr" });
  expect(host.endReason(held)).toBe("released");
  expect(host.endReason(waiting)).toBe("cancelled");
});

test("a lease whose end fell into the daemon's absence gets ten seconds, or its TTL if that is less", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const long = host.submit({ ttlMs: minutes(1) });
  const short = host.submit({ ttlMs: seconds(4) });
  host.now += minutes(60);
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: 0 });
  expect(host.lease(long)?.expiresAt).toBe(host.now + seconds(10));
  expect(host.lease(short)?.expiresAt).toBe(host.now + seconds(4));
  host.renew(long);
  host.advance(seconds(30));
  expect(host.allocation(long).status).toBe("leased");
  expect(host.endReason(short)).toBe("expired");
});

test("on a new boot of the host, leases without a TTL are over and those with one are not", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const endless = host.submit({ maxDurationMs: minutes(60) });
  const finite = host.submit({ ttlMs: minutes(60) });
  host.do({ type: "resume", bootId: "boot-2", fencingFloor: 0 });
  expect(host.endReason(endless)).toBe("rebooted");
  expect(host.allocation(finite).status).toBe("leased");
});

test("an offer unclaimed in time ends, and the next in line is served", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit();
  const absent = host.submit();
  const next = host.submit();
  host.release(holder);
  expect(host.allocation(absent).status).toBe("offered");
  host.advance(seconds(60));
  expect(host.endReason(absent)).toBe("unclaimed");
  expect(host.allocation(next).status).toBe("offered");
});

test.each(["claim", "touch", "renew"] as const)("a %s turns an offer into a lease", (sign) => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit();
  const waiting = host.submit();
  host.release(holder);
  host[sign](waiting);
  host.advance(minutes(10));
  expect(host.allocation(waiting).status).toBe("leased");
});

test("a late claim revives nothing", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit();
  const absent = host.submit();
  host.release(holder);
  host.advance(minutes(2));
  host.claim(absent);
  expect(host.endReason(absent)).toBe("unclaimed");
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("free");
});

test("a waiting request without a webhook that shows no life is abandoned; asking for it keeps it", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const silent = host.submit({ webhookUrl: null });
  const asking = host.submit({ webhookUrl: null });
  const told = host.submit();
  host.advance(seconds(20));
  host.touch(asking);
  host.advance(seconds(20));
  expect(host.endReason(silent)).toBe("abandoned");
  expect(host.allocation(asking).status).toBe("queued");
  host.advance(minutes(10));
  expect(host.endReason(asking)).toBe("abandoned");
  expect(host.allocation(told).status).toBe("queued");
});

test("a lease whose client hung up before it was told is an offer again, and a sign of life restores it", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const gone = host.submit();
  const back = host.submit();
  host.hangUp(gone);
  host.hangUp(back);
  expect(host.allocation(gone).status).toBe("offered");
  host.renew(back);
  host.advance(minutes(2));
  expect(host.endReason(gone)).toBe("unclaimed");
  expect(host.allocation(back).status).toBe("leased");
});

test("a client that waits on an open connection is alive for as long as it waits", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const waiting = host.submit({ webhookUrl: null });
  host.do({ type: "touch", id: waiting, actor: { principal: "anonymous", admin: true }, waitMs: seconds(60) });
  host.advance(seconds(60));
  expect(host.allocation(waiting).status).toBe("queued");
  host.advance(seconds(30));
  expect(host.endReason(waiting)).toBe("abandoned");
});

test.each(["claim", "touch"] as const)("a %s that comes with the end of an offer is too late for it", (sign) => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit();
  const absent = host.submit();
  host.release(holder);
  // The offer is over, and nothing has ended it yet: the sign is the first to come.
  host.now += seconds(60);
  if (sign === "touch") expect(refusal(() => host.touch(absent))).toBe("allocation-not-found");
  else host.claim(absent);
  host.do({ type: "tick" });
  expect(host.endReason(absent)).toBe("unclaimed");
});

test("an admin who looks at an offer does not claim it for its client", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit({ actor: BOB });
  const offered = host.submit({ actor: BOB });
  host.release(holder);
  host.touch(offered);
  expect(host.allocation(offered).status).toBe("offered");
});

test("an offer ends with the TTL of its lease, if that is sooner", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit();
  const short = host.submit({ ttlMs: seconds(20) });
  host.release(holder);
  host.advance(seconds(20) - 1);
  expect(host.allocation(short).status).toBe("offered");
  host.advance(1);
  expect(host.endReason(short)).toBe("expired");
});

test("nobody who waits is taken for silent because the daemon was away", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const waiting = host.submit({ webhookUrl: null });
  host.now += minutes(60);
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: 0 });
  host.advance(seconds(30) - 1);
  expect(host.allocation(waiting).status).toBe("queued");
  host.advance(1);
  expect(host.endReason(waiting)).toBe("abandoned");
});
