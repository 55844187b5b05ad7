import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { SCHEMA_VERSION } from "../../src/store/migrations.ts";
import { olderCopyOf } from "../../src/store/open.ts";
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

/** Each made by the program of its time: released schemas, and the one of this program. */
const FIXTURES = readdirSync(new URL("../fixtures/databases/", import.meta.url));

test.each(FIXTURES)("%s opens up to date, with its leases, its queue and what has ended", async (name) => {
  const path = older(name);
  const store = open(path);
  const { allocations, gpus, nextFencingToken } = store.load();
  expect(allocations.map(({ status, request }) => [request.serviceName, status])).toEqual([
    ["a", "leased"],
    ["c", "queued"],
    ["d", "queued"],
  ]);
  expect(gpus).toHaveLength(2);
  expect(nextFencingToken).toBeGreaterThan(0);
  const all = store.list({ status: null, serviceName: null, principal: null, before: null, limit: 10 });
  expect(all.map(({ request, status }) => [request.serviceName, status])).toContainEqual(["b", "ended"]);
  await store.close();

  const database = new DatabaseSync(path, { readOnly: true });
  expect(database.prepare("PRAGMA user_version").get()).toEqual({ user_version: SCHEMA_VERSION });
  database.close();
});

const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

test.skipIf(!hasPrlimit)("where its copy has no room the start is refused, and the way back stays whole", async () => {
  const path = older("schema-1.sql");
  const copy = olderCopyOf(path, 1);
  writeFileSync(copy, "an older copy");
  // No file may grow beyond what SQLite itself needs beside the database.
  const opening = `
    const { openDatabase } = await import(${JSON.stringify(new URL("../../src/store/open.ts", import.meta.url))});
    openDatabase(${JSON.stringify(path)});`;
  const { stderr, status } = spawnSync(
    "prlimit",
    ["--fsize=40000:", process.execPath, "--input-type=module", "--eval", opening],
    { encoding: "utf8" },
  );
  expect(status).toBe(1);
  expect(stderr).toMatch(/cannot be written .* it needs up to \d+ bytes of free space there/);
  expect(stderr).toContain(copy);
  expect(readFileSync(copy, "utf8")).toBe("an older copy");
  expect(readdirSync(dirname(path)).filter((name) => name.includes("unfinished"))).toEqual([]);
  await open(path).close();
  expect(statSync(copy).size).toBeGreaterThan(40_000);
});

test("a request of schema 1 has not been the head for any time that is known", async () => {
  const store = open(older("schema-1.sql"));
  const { allocations } = store.load();
  expect(allocations.flatMap((one) => (one.status === "queued" ? [one.headSince] : []))).toEqual([null, null]);
  await store.close();
});

test("a booking of schema 7 is there, and none was before", async () => {
  const [store, before] = [open(older("schema-7.sql")), open(older("schema-6.sql"))];
  expect(store.load().bookings).toMatchObject([{ principal: "ada", gpus: 1, serviceName: null }]);
  expect(before.load().bookings).toEqual([]);
  await store.close();
  await before.close();
});

test("what an older program wrote is kept beside the file, whole and for its owner alone", async () => {
  const path = older("schema-1.sql");
  await open(path).close();
  const copy = olderCopyOf(path, 1);
  expect(statSync(copy).mode & 0o777).toBe(0o600);
  const kept = new DatabaseSync(copy, { readOnly: true });
  expect(kept.prepare("PRAGMA user_version").get()).toEqual({ user_version: 1 });
  expect(kept.prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  expect(kept.prepare("SELECT count(*) AS n FROM allocations").get()).toEqual({ n: 4 });
  kept.close();
  // The next start has nothing to bring up to date.
  rmSync(copy);
  await open(path).close();
  expect(existsSync(copy)).toBe(false);
});

test("the schema that this program writes has a fixture, which is what a later program will meet", async () => {
  const schemaOf = (path: string) => {
    const database = new DatabaseSync(path, { readOnly: true });
    const schema = database
      .prepare("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY 1, 2")
      .all();
    const version = database.prepare("PRAGMA user_version").get();
    database.close();
    return { schema, version };
  };
  const fresh = databasePath();
  await open(fresh).close();
  expect(FIXTURES).toContain(`schema-${SCHEMA_VERSION}.sql`);
  expect(schemaOf(older(`schema-${SCHEMA_VERSION}.sql`))).toEqual(schemaOf(fresh));
});
