/** Objects in a database: the same on both. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../../src/controller/store/database.ts";
import { DatabaseError } from "../../../src/controller/store/database.ts";
import { DatabaseObjects } from "../../../src/controller/store/objects.ts";
import { spec } from "../objects.ts";
import { BACKENDS } from "./backends.ts";

const draft = (change: object = {}) => ({
  namespace: "default",
  name: "chat",
  labels: {},
  annotations: {},
  spec: spec(change),
});
const KEY = { principal: "me", key: "k", fingerprint: "f" };

describe.each(BACKENDS.map((make) => make()))("objects in $name", (backend) => {
  if (!backend.isThere) {
    test.skip("all of them", () => undefined);
    return;
  }
  let open: () => Database;
  let ends: (() => Promise<void>)[] = [];
  beforeAll(() => backend.start(), 60_000);
  afterAll(() => backend.stop());
  beforeEach(async () => {
    open = await backend.fresh();
    return async () => {
      for (const end of ends) await end();
      ends = [];
    };
  });

  /** As another process sees them. */
  async function opened(database = open()): Promise<{ objects: DatabaseObjects; close: () => Promise<void> }> {
    const objects = new DatabaseObjects(database);
    await objects.refresh();
    let isOpen = true;
    const close = async () => {
      if (isOpen) await database.close();
      isOpen = false;
    };
    ends.push(close);
    return { objects, close };
  }

  test("survive a restart, with their statuses", async () => {
    const first = await opened();
    const made = await first.objects.put(draft());
    await first.objects.putStatus(made, { state: "running" });
    await first.close();
    const { objects } = await opened();
    const [found] = objects.workloads();
    expect(found).toMatchObject({ metadata: { uid: made.metadata.uid }, status: { state: "running" } });
    expect(found?.spec).toEqual(draft().spec);
  });

  test("have another generation for another spec, and none for another label or status", async () => {
    const { objects } = await opened();
    const first = await objects.put(draft());
    await objects.putStatus(first, { state: "pending" });
    const same = await objects.put({ ...draft(), labels: { team: "a" } });
    const other = await objects.put(draft({ replicas: 2 }));
    expect([first, same, other].map(({ metadata }) => metadata.generation)).toEqual([1, 1, 2]);
    expect(other.status).toEqual({ state: "pending" });
    const versions = [first, same, other].map(({ metadata }) => Number(metadata.resourceVersion));
    expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
  });

  test("take no status of a look at what has been made anew meanwhile", async () => {
    const { objects } = await opened();
    const old = await objects.put(draft());
    await objects.forget(old);
    await objects.put(draft());
    await objects.putStatus(old, { state: "running" });
    expect(objects.workloads()[0]?.status).toEqual({});
  });

  test("are kept with the key of the request that made them, over a restart", async () => {
    const first = await opened();
    await first.objects.create(draft(), KEY);
    await first.close();
    const { objects } = await opened();
    expect(objects.recall("me", "k")).toEqual({ fingerprint: "f", ids: ["chat"] });
    expect(objects.recall("you", "k")).toBeUndefined();
  });

  test("that are being deleted cannot be changed, and are gone when they are forgotten", async () => {
    const first = await opened();
    const made = await first.objects.put(draft());
    await first.objects.remove(made);
    await expect(first.objects.put(draft({ replicas: 3 }))).rejects.toMatchObject({ code: "conflict" });
    await first.objects.forget(made);
    await first.close();
    expect((await opened()).objects.workloads()).toEqual([]);
  });

  test("keep models apart from workloads", async () => {
    const first = await opened();
    const model = { name: "chat", version: "1", type: "text-generation", framework: "pytorch" };
    await first.objects.putModel("chat", {}, model as never);
    await first.objects.putModel("chat", { team: "a" }, model as never);
    await first.close();
    const { objects } = await opened();
    expect(objects.models()).toMatchObject([{ metadata: { name: "chat", labels: { team: "a" } }, spec: model }]);
    expect(objects.workloads()).toEqual([]);
  });

  test("of models have a status, which a change of the spec leaves, and which nothing that is the same makes another of", async () => {
    const first = await opened();
    const spec = { name: "chat", version: "1", type: "text-generation", framework: "pytorch" } as const;
    const made = await first.objects.putModel("chat", {}, spec);
    await first.objects.putModelStatus(made, { phase: "Available" });
    expect((await first.objects.putModel("chat", {}, spec)).metadata.generation).toBe(1);
    const changed = await first.objects.putModel("chat", {}, { ...spec, author: "a" });
    expect(changed).toMatchObject({ metadata: { generation: 2 }, status: { phase: "Available" } });
    await first.objects.removeModel(changed);
    const again = await first.objects.putModel("chat", {}, spec);
    // What was worked out for the one before is not the new one's.
    await first.objects.putModelStatus(changed, { phase: "Failed" });
    expect(first.objects.models()).toEqual([again]);
    await first.close();
    const { objects } = await opened();
    expect(objects.models()[0]?.status).toEqual({});
  });

  test("are refused while the database is away, and what was known is told; a status is written when it is back", async () => {
    const real = open();
    let isAway = false;
    const database: Database = {
      dialect: real.dialect,
      run: (statements) =>
        isAway ? Promise.reject(new DatabaseError("away", "gone for lunch")) : real.run(statements),
      close: () => real.close(),
    };
    const { objects, close } = await opened(database);
    const made = await objects.put(draft());
    isAway = true;
    await expect(objects.put(draft({ replicas: 2 }))).rejects.toMatchObject({ code: "storage-unavailable" });
    await expect(objects.forget(made)).rejects.toMatchObject({ code: "storage-unavailable" });
    await objects.putStatus(made, { state: "running" });
    expect(objects.workloads()).toMatchObject([{ spec: draft().spec, status: { state: "running" } }]);
    isAway = false;
    await objects.refresh();
    expect(objects.workloads()[0]?.status).toEqual({ state: "running" });
    await objects.writeStatuses();
    await close();
    expect((await opened()).objects.workloads()[0]?.status).toEqual({ state: "running" });
  });

  test("can be made by nobody before they were read", async () => {
    const database = open();
    ends.push(() => database.close());
    await expect(new DatabaseObjects(database).put(draft())).rejects.toMatchObject({ code: "storage-unavailable" });
  });

  // A file of SQLite is one controller's.
  if (backend.name === "SQLite") return;
  describe("that two controllers have", () => {
    test("are seen by both: what is made, changed and gone", async () => {
      const [{ objects: a }, { objects: b }] = [await opened(), await opened()];
      const made = await a.put(draft());
      await b.refresh();
      expect(b.workloads()).toEqual([made]);
      await b.put(draft({ replicas: 2 }));
      await a.refresh();
      expect(a.workloads()[0]?.spec.replicas).toBe(2);
      await a.forget(made);
      await b.refresh();
      expect(b.workloads()).toEqual([]);
    });

    test("are never changed on top of what the other has not seen", async () => {
      const [{ objects: a }, { objects: b }] = [await opened(), await opened()];
      await a.put(draft());
      await b.refresh();
      await a.put(draft({ replicas: 2 }));
      const last = await b.put({ ...draft({ replicas: 3 }), labels: { by: "b" } });
      expect(last.metadata.generation).toBe(3);
      const both = await Promise.all([a.put(draft({ replicas: 4 })), b.put(draft({ replicas: 5 }))]);
      expect(both.map(({ metadata }) => metadata.generation).sort()).toEqual([4, 5]);
      await Promise.all([a.refresh(), b.refresh()]);
      expect(a.workloads()).toEqual(b.workloads());
    });

    test("are made once by one request, whichever takes it", async () => {
      const [{ objects: a }, { objects: b }] = [await opened(), await opened()];
      const first = await a.create(draft(), KEY);
      const again = await b.create({ ...draft(), name: "other" }, KEY);
      expect(again.isNew).toBe(false);
      expect(again.workload.metadata.uid).toBe(first.workload.metadata.uid);
      await expect(b.create({ ...draft(), name: "third" }, { ...KEY, fingerprint: "g" })).rejects.toMatchObject({
        code: "conflict",
      });
      await a.refresh();
      expect(a.workloads()).toHaveLength(1);
    });
  });
});
