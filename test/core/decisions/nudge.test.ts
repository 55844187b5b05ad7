/** Somebody writes to whoever holds a lease. */
import { expect, test } from "vitest";
import { h100, minutes, refusal, SimulatedHost } from "../../simulation/simulated-host.ts";

const EVE = { principal: "eve", admin: false };

function hostOf(): SimulatedHost {
  return new SimulatedHost([h100("GPU-0")], { verifyRelease: "never" });
}

const nudge = (host: SimulatedHost, id: string, message = "done by six?") =>
  host.do({ type: "nudge", id, message, actor: EVE });

test("the lease bears the last message, and is otherwise what it was", () => {
  const host = hostOf();
  const id = host.submit({ ttlMs: minutes(10) });
  const before = host.lease(id);
  const at = host.now;
  nudge(host, id);
  expect(host.lease(id)).toEqual({ ...before, nudge: { at, by: "eve", message: "done by six?" } });
  host.renew(id);
  expect(host.lease(id)?.nudge?.at).toBe(at);
  host.advance(minutes(1));
  nudge(host, id, "and now?");
  expect(host.lease(id)?.nudge).toEqual({ at: at + minutes(1), by: "eve", message: "and now?" });
});

test("a holder is written to once a minute, by whomever", () => {
  const host = hostOf();
  const id = host.submit({});
  nudge(host, id);
  host.advance(minutes(1) - 1);
  expect(refusal(() => nudge(host, id))).toBe("nudged-lately");
  host.advance(1);
  nudge(host, id);
});

test("of what waits there is no holder, and of what has ended neither", () => {
  const host = hostOf();
  const held = host.submit({});
  const waiting = host.submit({});
  expect(refusal(() => nudge(host, waiting))).toBe("nudge-refused");
  host.release(held);
  expect(refusal(() => nudge(host, held))).toBe("allocation-not-found");
});
