import { afterEach, describe, expect, test } from "vitest";
import { Client } from "../../src/client/client.ts";
import type { LeaseLost } from "../../src/client/errors.ts";
import { nodeTransport } from "../../src/client/node-transport.ts";
import { Renewal, type RenewalOptions } from "../../src/client/renewal.ts";
import type { Granted } from "../../src/client/types.ts";
import { answer, refuse, type Script, type Scripted, scripted } from "./server.ts";

const servers: Scripted[] = [];
const renewals: Renewal[] = [];

afterEach(async () => {
  for (const renewal of renewals.splice(0)) renewal.stop();
  for (const server of servers.splice(0)) await server.close();
});

const LEASE = { id: "svc-1", ttl_seconds: 3, fencing_token: 7 } as Granted;

async function kept(script: Script, options: Partial<RenewalOptions> = {}) {
  const server = await scripted(script);
  servers.push(server);
  const lost: LeaseLost[] = [];
  const troubles: (string | null)[] = [];
  const renewal = new Renewal({
    client: new Client({ transport: nodeTransport(server.url) }),
    lease: LEASE,
    heldAt: performance.now(),
    isLocal: false,
    onLost: (one) => lost.push(one),
    onTrouble: (words) => troubles.push(words),
    ...options,
  });
  renewals.push(renewal);
  return { server, renewal, lost, troubles };
}

async function soon(holds: () => boolean): Promise<void> {
  const end = performance.now() + 15_000;
  while (!holds() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(holds()).toBe(true);
}

describe("a lease that is kept", () => {
  test("is renewed at a third of its TTL, with its token, and tells its records", async () => {
    const records: unknown[] = [];
    const { server, renewal, lost } = await kept(
      (response) => answer(response, 200, { id: "svc-1", status: "leased" }),
      {
        onRecord: ({ status }) => records.push(status),
      },
    );
    renewal.start();
    const renewed = () => server.asked.filter(({ method }) => method === "POST");
    await soon(() => renewed().length > 0 && records.length > 0);
    expect(renewed()[0]).toMatchObject({ url: "/gpu/allocations/svc-1/renew", body: '{"fencing_token":7}' });
    expect(records).toContain("leased");
    expect([lost, renewal.lost]).toEqual([[], null]);
  });

  test("is lost when the daemon says that it has ended, for the record's reason", async () => {
    const ended = { id: "svc-1", status: "ended", end_reason: "revoked", end_detail: "fan" };
    const { renewal, lost } = await kept((response, { method }) => {
      if (method === "POST") refuse(response, 409, "allocation-ended");
      else answer(response, 200, ended);
    });
    renewal.start();
    await soon(() => lost.length > 0);
    expect(lost[0]).toMatchObject({
      reason: "revoked",
      allocationId: "svc-1",
      message: expect.stringContaining("fan"),
    });
  });

  test("is lost before its TTL is over when nobody answers", async () => {
    const { renewal, lost, troubles } = await kept(() => {}, { lease: { ...LEASE, ttl_seconds: 1 } });
    const began = performance.now();
    renewal.start();
    await soon(() => lost.length > 0);
    expect(lost[0]?.reason).toBe("silence");
    expect(troubles.length).toBeGreaterThan(0);
    expect(began).toBeLessThan(performance.now());
  });

  test("is known to be lost at once after a pause that was longer than its TTL, whatever the timers say", async () => {
    let now = 0;
    const { renewal, lost } = await kept(() => {}, { now: () => now, heldAt: 0 });
    expect(renewal.lost).toBeNull();
    now = 2_600;
    expect(renewal.lost).toBeNull();
    now = 2_701;
    expect(renewal.lost?.reason).toBe("silence");
    expect(lost).toHaveLength(1);
  });

  test.each([
    [true, 0],
    [false, 1],
  ])("with a daemon on this host (%s) that is down, is lost %i times", async (isLocal, times) => {
    const { server, renewal, lost, troubles } = await kept(() => {}, { isLocal, lease: { ...LEASE, ttl_seconds: 1 } });
    await server.close();
    renewal.start();
    await soon(() => troubles.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(lost).toHaveLength(times);
  });

  test("tells of trouble once, and when it is over", async () => {
    const { renewal, troubles } = await kept((response, _asked, count) => {
      if (count <= 2) refuse(response, 503, "storage-unavailable");
      else answer(response, 200, { id: "svc-1", status: "leased" });
    });
    renewal.start();
    await soon(() => troubles.length >= 2);
    expect(troubles).toEqual([expect.stringContaining("storage-unavailable"), null]);
  });
});
