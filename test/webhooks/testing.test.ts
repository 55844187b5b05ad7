/** A webhook that is sent to see whether its receiver takes it. */
import { Webhook } from "standardwebhooks";
import { expect, onTestFinished, test, vi } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { parseAllowedHosts } from "../../src/webhooks/address-policy.ts";
import { type Deliverer, type DeliverySettings, startDelivering } from "../../src/webhooks/deliverer.ts";
import { MemoryOutbox } from "./memory-outbox.ts";
import { hang, receiver, status } from "./receivers.ts";

const BODY = '{"status":"test"}';

function delivering(settings: Partial<DeliverySettings> = {}): { deliverer: Deliverer; outbox: MemoryOutbox } {
  const outbox = new MemoryOutbox();
  const deliverer = startDelivering({
    outbox,
    settle: outbox.settle,
    clock: new ManualClock(),
    settings: {
      secrets: [],
      secretsByPrincipal: {},
      timeoutMs: 10_000,
      giveUpAfterMs: 60_000,
      concurrency: 16,
      perHostConcurrency: 4,
      allowedHosts: parseAllowedHosts(["loopback"]),
      ...settings,
    },
  });
  onTestFinished(() => deliverer.stop());
  return { deliverer, outbox };
}

test("it arrives once, signed by the secrets of whoever asks, and leaves no row behind", async () => {
  const target = await receiver();
  const { deliverer, outbox } = delivering({ secrets: ["for all"], secretsByPrincipal: { ann: ["ann's"] } });
  for (const [principal, secret] of [["ann", "ann's"] as const, ["bob", "for all"] as const]) {
    const came = await deliverer.test(target.url, principal, BODY);
    expect(came).toMatchObject({ httpStatus: 204, error: null, isSigned: true });
    const { body, headers } = target.received.at(-1) as (typeof target.received)[number];
    expect(headers["webhook-id"]).toBe(came?.deliveryId);
    expect(new Webhook(secret, { format: "raw" }).verify(body, headers as Record<string, string>)).toEqual({
      status: "test",
    });
  }
  expect([target.received.length, outbox.settlements]).toEqual([2, []]);
});

test("what a receiver answers, and that none does, is said; it is not sent again", async () => {
  const failing = await receiver(status(503));
  const { deliverer } = delivering();
  const came = await deliverer.test(failing.url, "ann", BODY);
  expect(came).toMatchObject({ httpStatus: 503, error: "the receiver answered 503", isSigned: false });
  expect(await deliverer.test("http://127.0.0.1:9/", "ann", BODY)).toMatchObject({
    httpStatus: null,
    error: "the connection was refused",
  });
  expect(failing.received).toHaveLength(1);
});

test("the address is judged when it leaves, as any webhook's is", async () => {
  const target = await receiver();
  const { deliverer } = delivering({ allowedHosts: parseAllowedHosts(["external"]) });
  expect(await deliverer.test(target.url, "ann", BODY)).toMatchObject({
    httpStatus: null,
    error: expect.stringMatching(/^refused: 127\.0\.0\.1 is loopback/),
  });
  expect(target.received).toEqual([]);
});

test("a principal has one under way, all together have four, and the end of the daemon ends them", async () => {
  const silent = await receiver(hang);
  const { deliverer } = delivering();
  const names = ["ann", "bob", "cyd", "dan"];
  const underWay = [deliverer.test(silent.url, "ann", BODY)];
  // Of its own there is one, whatever room there is.
  expect(await Promise.race([deliverer.test(silent.url, "ann", BODY), "sent"])).toBeNull();
  underWay.push(...names.slice(1).map((name) => deliverer.test(silent.url, name, BODY)));
  expect(await deliverer.test(silent.url, "eve", BODY)).toBeNull();
  await vi.waitUntil(() => silent.received.length === names.length);
  await deliverer.stop();
  for (const came of await Promise.all(underWay)) {
    expect(came).toMatchObject({ httpStatus: null, error: "the daemon stops" });
  }
  expect(await deliverer.test(silent.url, "ann", BODY)).toBeNull();
});
