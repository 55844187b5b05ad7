/** Both databases, so that the same tests can be run on each. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Database } from "../../../src/controller/store/database.ts";
import { PostgresDatabase } from "../../../src/controller/store/postgres.ts";
import { SqliteDatabase } from "../../../src/controller/store/sqlite.ts";
import { HAS_POSTGRES, NEEDS_POSTGRES, startPostgres, type TestPostgres } from "./postgres-server.ts";

export interface TestBackend {
  readonly name: string;
  readonly isThere: boolean;
  start(): Promise<void>;
  /** An empty store, which can be opened again after it was closed. */
  fresh(): Promise<() => Database>;
  stop(): Promise<void>;
}

function sqlite(): TestBackend {
  const folder = mkdtempSync(join(tmpdir(), "controller-store-"));
  let count = 0;
  return {
    name: "SQLite",
    isThere: true,
    start: async () => undefined,
    async fresh() {
      const path = join(folder, `${count++}.db`);
      return () => new SqliteDatabase(path);
    },
    stop: async () => rmSync(folder, { recursive: true }),
  };
}

function postgres(): TestBackend {
  let server: TestPostgres;
  let count = 0;
  return {
    name: `PostgreSQL${NEEDS_POSTGRES}`,
    isThere: HAS_POSTGRES,
    async start() {
      server = await startPostgres();
    },
    async fresh() {
      const settings = await server.database(`store_${count++}`);
      return () => new PostgresDatabase(settings);
    },
    stop: () => server.stop(),
  };
}

export const BACKENDS: readonly (() => TestBackend)[] = [sqlite, postgres];
