/** A PostgreSQL for the tests of one `describe`, whose connections end before it does. */
import { afterAll, beforeAll } from "vitest";
import type { PostgresSettings } from "../../../src/controller/store/address.ts";
import { PostgresDatabase } from "../../../src/controller/store/postgres.ts";
import { startPostgres, type TestPostgres } from "./postgres-server.ts";

export function withPostgres() {
  let server: TestPostgres;
  const ends: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(async () => {
    for (const end of ends) await end();
    await server.stop();
  });
  return {
    /** Once the tests run. */
    get server() {
      return server;
    },
    atEnd: (end: () => Promise<unknown>) => void ends.push(end),
    opened(settings: PostgresSettings): PostgresDatabase {
      const database = new PostgresDatabase(settings);
      ends.push(() => database.close());
      return database;
    },
  };
}

export async function eventually(holds: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const until = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > until) throw new Error(`not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
