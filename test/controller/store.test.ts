import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, test } from "vitest";
import { SqliteObjects } from "../../src/controller/store/sqlite.ts";
import { spec } from "./objects.ts";

const folder = mkdtempSync(join(tmpdir(), "controller-store-"));
afterAll(() => rmSync(folder, { recursive: true }));

const draft = (change: object = {}) => ({
  namespace: "default",
  name: "chat",
  labels: {},
  annotations: {},
  spec: spec(change),
});

describe("objects in a database", () => {
  test("survive a restart, with their statuses and history", async () => {
    const path = join(folder, "restart.db");
    const first = new SqliteObjects(path);
    const made = await first.put(draft());
    await first.putStatus(made, { state: "running" });
    first.addEvent({
      deploymentId: "chat",
      at: new Date().toISOString(),
      type: "Ready=True",
      reason: "AllReady",
      message: "",
    });
    first.close();
    const second = new SqliteObjects(path);
    expect(second.workloads()).toMatchObject([{ metadata: { uid: made.metadata.uid }, status: { state: "running" } }]);
    expect(second.events("chat", 10)).toMatchObject([{ reason: "AllReady" }]);
    second.close();
  });

  test("have another generation for another spec, and none for another label or status", async () => {
    const objects = new SqliteObjects(":memory:");
    const first = await objects.put(draft());
    await objects.putStatus(first, { state: "pending" });
    const same = await objects.put({ ...draft(), labels: { team: "a" } });
    const other = await objects.put(draft({ replicas: 2 }));
    expect([first, same, other].map(({ metadata }) => metadata.generation)).toEqual([1, 1, 2]);
    expect(other.status).toEqual({ state: "pending" });
    objects.close();
  });

  test("take no status of a look at what has been made anew meanwhile", async () => {
    const objects = new SqliteObjects(":memory:");
    const old = await objects.put(draft());
    await objects.forget(old);
    await objects.put(draft());
    await objects.putStatus(old, { state: "running" });
    expect(objects.workloads()[0]?.status).toEqual({});
    objects.close();
  });

  test("are kept with the key of the request that made them, over a restart", async () => {
    const path = join(folder, "keys.db");
    const first = new SqliteObjects(path);
    await first.create(draft(), { principal: "me", key: "k", fingerprint: "f" });
    first.close();
    const second = new SqliteObjects(path);
    expect(second.recall("me", "k")).toEqual({ fingerprint: "f", ids: ["chat"] });
    expect(second.recall("you", "k")).toBeUndefined();
    second.close();
  });

  test("that are being deleted cannot be changed", async () => {
    const objects = new SqliteObjects(":memory:");
    await objects.remove(await objects.put(draft()));
    await expect(objects.put(draft({ replicas: 3 }))).rejects.toMatchObject({ code: "conflict" });
    objects.close();
  });

  test("are not looked for in another program's file, nor in a newer version's", () => {
    const foreign = join(folder, "foreign.db");
    const other = new DatabaseSync(foreign);
    other.exec("CREATE TABLE mine (x)");
    other.close();
    expect(() => new SqliteObjects(foreign)).toThrow("no database of the controller");
    const newer = join(folder, "newer.db");
    new SqliteObjects(newer).close();
    const file = new DatabaseSync(newer);
    file.exec("PRAGMA user_version = 99");
    file.close();
    expect(() => new SqliteObjects(newer)).toThrow("newer version");
  });
});
