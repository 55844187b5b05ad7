import { readFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { SCHEMA_VERSION } from "../../src/store/migrations.ts";
import { databasePath, open } from "./files.ts";

/** A file that an older program left behind. */
function older(name: string): string {
  const path = databasePath();
  const database = new DatabaseSync(path);
  database.exec("PRAGMA journal_mode = WAL");
  database.exec(readFileSync(new URL(`../fixtures/databases/${name}`, import.meta.url), "utf8"));
  database.close();
  return path;
}

test("a file of schema 1 is brought up to date at the start, with its leases, its queue and what has ended", async () => {
  const path = older("schema-1.sql");
  const store = open(path);
  const { allocations, gpus, nextFencingToken } = store.load();
  expect(allocations.map(({ status, request }) => [request.serviceName, status])).toEqual([
    ["a", "leased"],
    ["c", "queued"],
    ["d", "queued"],
  ]);
  expect(allocations.flatMap((one) => (one.status === "queued" ? [one.headSince] : []))).toEqual([null, null]);
  expect(gpus).toHaveLength(2);
  expect(nextFencingToken).toBeGreaterThan(0);
  const all = store.list({ status: null, serviceName: null, principal: null, before: null, limit: 10 });
  expect(all.map(({ request, status }) => [request.serviceName, status])).toContainEqual(["b", "ended"]);
  await store.close();

  const database = new DatabaseSync(path, { readOnly: true });
  expect(database.prepare("PRAGMA user_version").get()).toEqual({ user_version: SCHEMA_VERSION });
  database.close();
});
