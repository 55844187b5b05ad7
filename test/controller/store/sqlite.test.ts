/** The file of SQLite: whose it is, of which version, and who else has it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, test } from "vitest";
import { SQLITE_MIGRATIONS } from "../../../src/controller/store/migrations.ts";
import { SqliteDatabase } from "../../../src/controller/store/sqlite.ts";
import { SqliteObjects } from "../sqlite-objects.ts";

const folder = mkdtempSync(join(tmpdir(), "controller-sqlite-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("a file of SQLite", () => {
  test("is neither another program's nor a newer version's", async () => {
    const foreign = join(folder, "foreign.db");
    const other = new DatabaseSync(foreign);
    other.exec("CREATE TABLE mine (x)");
    other.close();
    expect(() => new SqliteDatabase(foreign)).toThrow("no database of the controller");
    const newer = join(folder, "newer.db");
    await new SqliteDatabase(newer).close();
    const file = new DatabaseSync(newer);
    file.exec("PRAGMA user_version = 99");
    file.close();
    expect(() => new SqliteDatabase(newer)).toThrow("newer version");
  });

  test("is one controller's at a time", async () => {
    const path = join(folder, "locked.db");
    const first = new SqliteDatabase(path);
    expect(() => new SqliteDatabase(path)).toThrow("in use by another controller");
    await first.close();
    await new SqliteDatabase(path).close();
  });

  test("of an older version is brought up to date with all that is in it", async () => {
    const path = join(folder, "old.db");
    const old = new DatabaseSync(path);
    for (const sql of SQLITE_MIGRATIONS.slice(0, 2)) old.exec(sql);
    old.exec("PRAGMA application_id = 0x47707543; PRAGMA user_version = 2");
    const metadata = { name: "chat", namespace: "default", uid: "u", generation: 3, resourceVersion: "7", labels: {} };
    const insert = old.prepare("INSERT INTO objects VALUES ('LLMWorkload', 'default', 'chat', ?, ?, ?)");
    insert.run(JSON.stringify(metadata), '{"modelName":"m"}', '{"state":"running"}');
    old.exec("UPDATE versions SET last = 7");
    old.exec(`INSERT INTO scaling_events (event_id, deployment_id, tenant_id, scaling_type, from_replicas, to_replicas,
      trigger_reason, trigger_metrics, status, initiated_at)
      VALUES ('e1', 'chat', 'acme', 'manual', 1, 2, 'why', '{"a":1}', 'success', '2026-11-01T00:00:00.000Z')`);
    old.exec("INSERT INTO deployment_events VALUES (1, 'gone', '2026-11-01T00:00:00.000Z', 'Ready=True', 'r', 'm')");
    old.prepare("INSERT INTO idempotency_keys VALUES ('me', 'k', 'f', ?, 'chat')").run(Date.now());
    old.close();
    const objects = await SqliteObjects.open(path);
    expect(objects.workloads()).toMatchObject([{ metadata: { uid: "u", generation: 3, resourceVersion: "7" } }]);
    expect(objects.recall("me", "k")).toEqual({ fingerprint: "f", ids: ["chat"] });
    expect(await objects.scalings({ limit: 9 })).toMatchObject([
      { eventId: "e1", tenantId: "acme", triggerMetrics: { a: 1 }, status: "success" },
    ]);
    expect(await objects.events("gone", 9)).toMatchObject([{ reason: "r", message: "m" }]);
    await objects.putStatus(objects.workloads()[0] as never, { state: "error" });
    expect(objects.workloads()[0]?.metadata.resourceVersion).toBe("8");
    await objects.close();
  });

  test("that was brought up to date has the same tables as a new one", async () => {
    const upgraded = join(folder, "upgraded.db");
    const old = new DatabaseSync(upgraded);
    for (const sql of SQLITE_MIGRATIONS.slice(0, 2)) old.exec(sql);
    old.exec("PRAGMA application_id = 0x47707543; PRAGMA user_version = 2");
    old.close();
    const made = join(folder, "made.db");
    const schemaOf = async (path: string) => {
      await new SqliteDatabase(path).close();
      const file = new DatabaseSync(path);
      const rows = file.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").all();
      file.close();
      return rows;
    };
    expect(await schemaOf(upgraded)).toEqual(await schemaOf(made));
  });
});
