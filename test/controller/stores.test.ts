/** The database that the settings choose, in a cluster, where nothing waits for it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { expect, test, vi } from "vitest";
import { loadSettings } from "../../src/controller/settings/settings.ts";
import { Stores } from "../../src/controller/stores.ts";

const SETTINGS = loadSettings({}, {});

test("a PostgreSQL that is away is known to be, before anything is to be written, and holds up no start", async () => {
  const at = { host: "127.0.0.1", port: 1, database: "x", user: "x", password: "secret", schema: "s", tls: null };
  const said: string[] = [];
  const log = pino({}, { write: (line) => said.push(line) });
  const stores = await Stores.open({ ...SETTINGS, postgres: at }, log);
  await vi.waitFor(() => expect(stores.trouble).toContain("ECONNREFUSED"));
  await stores.close();
  expect(said.join("")).toContain("the database is away");
  expect(said.join("")).not.toContain("secret");
});

test("a controller of a cluster that can write nowhere keeps history in memory, and says so", async () => {
  const said: string[] = [];
  const log = pino({}, { write: (line) => said.push(line) });
  // A folder is no file that could be opened, for root neither.
  const folder = mkdtempSync(join(tmpdir(), "controller-stores-"));
  const stores = await Stores.open({ ...SETTINGS, database: folder }, log);
  expect(said.join("")).toContain("the history of scaling stays in memory");
  expect(await stores.database.run([{ sql: "SELECT count(*) AS count FROM audit" }])).toEqual([[{ count: 0 }]]);
  await stores.close();
  rmSync(folder, { recursive: true });
  rmSync(`${folder}.lock`);
});

test("one host's objects are there at once from a file, and it alone decides", async () => {
  const folder = mkdtempSync(join(tmpdir(), "controller-stores-"));
  const settings = { ...SETTINGS, backend: "host" as const, database: join(folder, "controller.db") };
  const stores = await Stores.open(settings, pino({ level: "silent" }));
  expect([stores.unread, stores.leads]).toEqual([null, true]);
  await stores.close();
  rmSync(folder, { recursive: true });
});
