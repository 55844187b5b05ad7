import { expect, onTestFinished, test } from "vitest";
import { Auditing, type Entry, type Noted } from "../../../src/http/exchange/auditing.ts";

function auditing() {
  const kept: Entry[] = [];
  const disk = { isFull: false, lost: 0 };
  const clock = { now: 0 };
  const keep = (entries: readonly Entry[]) => {
    if (disk.isFull) return Promise.reject(new Error("full"));
    kept.push(...entries);
    return Promise.resolve();
  };
  const warn = ({ count }: { readonly count?: number }) => {
    disk.lost += count ?? 0;
  };
  const log = new Auditing({ keep, now: () => clock.now, others: [] }, { warn });
  onTestFinished(() => log.stop());
  return { log, kept, disk, clock };
}

function by(principal: string | null, address = "10.0.0.1", action = "POST /gpu/allocate"): Noted {
  const caller =
    principal === null
      ? null
      : { actor: { principal, admin: false }, keyId: "abc", role: "allocate" as const, keyed: true };
  return { caller, address, action, object: null, requestId: "r" };
}

const refuse = (log: Auditing, count: number, who: Noted, code = "quota") => {
  for (let n = 0; n < count; n++) log.refused(who, code);
};

test("of one principal's refusals sixty a minute are written, the others counted when the minute is over", async () => {
  const { log, kept, clock } = auditing();
  refuse(log, 500, by("eve"));
  refuse(log, 3, by("ann"));
  await log.flush();
  expect(kept.filter(({ principal }) => principal === "eve")).toHaveLength(60);
  expect(kept.filter(({ principal }) => principal === "ann")).toHaveLength(3);

  clock.now = 60_000;
  await log.flush();
  expect(kept.at(-1)).toMatchObject({
    ...{ principal: "eve", address: "10.0.0.1", action: "POST /gpu/allocate" },
    ...{ result: "counted", reason: "quota", count: 440 },
  });
  refuse(log, 1, by("eve"));
  await log.flush();
  expect(kept.at(-1)).toMatchObject({ principal: "eve", result: "quota", count: 1 });
});

test("a flood of one sort of refusals hides none of another, and the rest is counted by call and code", async () => {
  const { log, kept, clock } = auditing();
  refuse(log, 100, by("eve", "10.0.0.1", "GET /gpu/history"), "limit-reached");
  refuse(log, 100, by("eve"), "quota");
  refuse(log, 1, by("eve", "10.0.0.2", "POST /gpu/drain"), "role-too-low");
  refuse(log, 1, by("eve", "10.0.0.2", "GET /gpu/audit"), "role-too-low");
  refuse(log, 5, by("eve", "10.0.0.2", "POST /gpu/release"), "allocation-not-found");
  await log.flush();
  expect(kept.filter(({ result }) => result === "role-too-low")).toHaveLength(2);
  clock.now = 60_000;
  await log.flush();
  const counted = kept.filter(({ result }) => result === "counted");
  expect(counted.map(({ action, reason, count }) => [action, reason, count])).toEqual([
    ["GET /gpu/history", "limit-reached", 40],
    ["POST /gpu/allocate", "quota", 40],
    ["POST /gpu/release", "allocation-not-found", 5],
  ]);
});

test("without a key an address has sixty, all together three hundred, and they take no place of principals", async () => {
  const { log, kept, clock } = auditing();
  refuse(log, 100, by(null, "10.0.0.1"), "unauthenticated");
  for (let n = 0; n < 2_000; n++) refuse(log, 1, by(null, `10.1.${n >> 8}.${n & 255}`), "unauthenticated");
  refuse(log, 1, by("ann"));
  await log.flush();
  expect(kept.filter(({ principal, address }) => principal === null && address === "10.0.0.1")).toHaveLength(60);
  expect(kept).toHaveLength(300 + 1);
  clock.now = 60_000;
  await log.flush();
  expect(kept).toHaveLength(300 + 2);
  expect(kept.at(-1)).toMatchObject({ principal: null, address: null, result: "counted", count: 2_100 - 300 });
});

test("beyond a thousand principals all others share theirs", async () => {
  const { log, kept, clock } = auditing();
  for (let n = 0; n < 2_000; n++) refuse(log, 1, by(`p${n}`, `10.1.${n >> 8}.${n & 255}`));
  await log.flush();
  expect(kept).toHaveLength(1_024 + 60);
  clock.now = 60_000;
  await log.flush();
  expect(kept.at(-1)).toMatchObject({ principal: null, address: null, result: "counted", count: 2_000 - 1_084 });
});

test("while nothing can be written refusals are counted, and the next that can be says how many are missing", async () => {
  const { log, kept, disk } = auditing();
  disk.isFull = true;
  refuse(log, 5, by("ann"));
  await log.flush();
  expect([kept.length, disk.lost]).toEqual([0, 5]);
  disk.isFull = false;
  refuse(log, 1, by("ann"));
  await log.flush();
  expect(kept.map(({ result, count }) => [result, count])).toEqual([
    ["not-kept", 5],
    ["quota", 1],
  ]);
});
