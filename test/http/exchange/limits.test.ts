import type { IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { ByteRoom } from "../../../src/http/exchange/byte-room.ts";
import { addressOf } from "../../../src/http/exchange/client-address.ts";
import { Crowd, type Place } from "../../../src/http/exchange/crowd.ts";
import { countedAddress, Limits, NO_LIMITS } from "../../../src/http/exchange/limits.ts";

test.each([
  ["192.0.2.1", "192.0.2.1"],
  ["::ffff:192.0.2.1", "192.0.2.1"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  [undefined, "local"],
])("%s is counted as %s", (address, counted) => expect(countedAddress(address)).toBe(counted));

test("only a trusted proxy says where a request comes from, and what anybody wrote before it does not count", () => {
  const from = (remoteAddress: string, forwarded: string) =>
    addressOf(["10.0.0.0/8", "::1"])({
      socket: { remoteAddress },
      headers: { "x-forwarded-for": forwarded },
    } as unknown as IncomingMessage);
  expect(from("10.0.0.1", "6.6.6.6, 192.0.2.7, 10.1.1.1")).toBe("192.0.2.7");
  expect(from("192.0.2.9", "198.51.100.1")).toBe("192.0.2.9");
  expect(from("::1", "not an address")).toBe("0:0:0:0::/64");
  expect(from("10.0.0.1", "")).toBe("10.0.0.1");
});

test("a full crowd takes room from whoever has most: the longest idle, never from one who has few", () => {
  const crowd = new Crowd(6);
  const left: string[] = [];
  const place = (address: string, name: string): Place => ({
    address,
    leave: () => left.push(name),
    idleSince: null,
  });
  const own = place("alice", "alice-1");
  crowd.enter(own);
  const hostile = [1, 2, 3, 4, 5].map((n) => place("mallory", `mallory-${n}`));
  for (const one of hostile) crowd.enter(one);
  crowd.busy(hostile[0] as Place);
  expect(crowd.enter(place("bob", "bob-1"))).toBe(true);
  expect(left).toEqual(["mallory-2"]);
  for (const one of hostile) crowd.busy(one);
  expect(crowd.enter(place("carol", "carol-1"))).toBe(true);
  expect(left).toEqual(["mallory-2", "mallory-1"]);
  expect(crowd.size).toBe(6);
});

test("a client is forgotten when it has nothing, and its share is not made anew by asking under another name", () => {
  const principal = { ...NO_LIMITS.principal, requestsPerSecond: 1 };
  const settings = { ...NO_LIMITS, principal };
  const limits = new Limits(() => settings);
  const entering = { isEssential: false, isLongPoll: false, storedBytes: null, hasIdempotencyKey: false };
  for (let i = 0; i < 5; i++) limits.clientOf("ann", `192.0.2.${i}`).enter(entering);
  expect(() => limits.clientOf("ann", "192.0.2.99").enter(entering)).toThrow(/requests a second/);
});

test("when all memory for bodies is taken, what gives GPUs back is still let in, and what leaves makes room", () => {
  const room = new ByteRoom();
  const MIB = 1_024 * 1_024;
  const occupant = () => ({ client: { roomBytes: 0 }, bodyBytes: 0, untakenBytes: 0, isUnderWay: false });
  const full = Array.from({ length: 16 }, occupant);
  for (const one of full) room.enter(one, 4 * MIB, false);
  expect(() => room.enter(occupant(), 1, false)).toThrow("too many bodies and answers");
  const release = occupant();
  room.enter(release, 4 * MIB, true);
  expect(() => room.enter({ ...occupant(), client: release.client }, 4 * MIB + 1, true)).toThrow("of this client");
  room.leave(release);
  room.came(full[0] as (typeof full)[0], MIB);
  room.enter(occupant(), 3 * MIB, false);
  for (const one of full) room.leave(one);
  expect(full.map(({ client }) => client.roomBytes)).toEqual(full.map(() => 0));
});

test("answers that a client does not take count as its own, until they are over", () => {
  const room = new ByteRoom();
  const client = { roomBytes: 0 };
  const answered = { client, bodyBytes: 0, untakenBytes: 0, isUnderWay: false };
  room.untaken(answered, 5 * 1_024 * 1_024);
  const next = { client, bodyBytes: 0, untakenBytes: 0, isUnderWay: false };
  expect(() => room.enter(next, 0, false)).toThrow("of this client");
  room.enter(next, 0, true);
  room.leave(answered);
  room.enter({ client, bodyBytes: 0, untakenBytes: 0, isUnderWay: false }, 0, false);
});

test("a room for so many requests takes no more at once, but for those that give back", () => {
  const room = new ByteRoom(2);
  const occupant = () => ({ client: null, bodyBytes: 0, untakenBytes: 0, isUnderWay: false });
  const [first, second] = [occupant(), occupant()];
  room.enter(first, 10, false);
  room.enter(second, 0, false);
  expect(() => room.enter(occupant(), 0, false)).toThrow(/2 requests are under way/);
  room.enter(occupant(), 0, true);
  room.leave(first);
  expect(() => room.enter(occupant(), 0, false)).toThrow(/2 requests are under way/);
  room.leave(second);
  room.enter(occupant(), 0, false);
});
