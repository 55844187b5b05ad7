/** Which of several controllers of one host decides. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PostgresSettings } from "../../../src/controller/store/address.ts";
import { DatabaseLock } from "../../../src/controller/store/lock.ts";
import { HAS_POSTGRES, NEEDS_POSTGRES, startPostgres, type TestPostgres } from "./postgres-server.ts";

const SILENT = { info: () => undefined, warn: () => undefined };

async function eventually(holds: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const until = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > until) throw new Error(`not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe.skipIf(!HAS_POSTGRES)(
  `the lock of a database that several controllers of one host have${NEEDS_POSTGRES}`,
  () => {
    let server: TestPostgres;
    beforeAll(async () => {
      server = await startPostgres();
    }, 60_000);
    const locks: DatabaseLock[] = [];
    const lost: number[] = [];
    const started = (settings: PostgresSettings, name: number) => {
      const lock = new DatabaseLock(settings, SILENT, () => lost.push(name));
      lock.start();
      locks.push(lock);
      return lock;
    };
    afterAll(async () => {
      await Promise.all(locks.map((lock) => lock.stop()));
      await server.stop();
    });

    test("lets one decide, and the next when it ends", async () => {
      const settings = await server.database("locked");
      const first = started(settings, 1);
      await eventually(() => first.isHeld);
      const second = started(settings, 2);
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      expect([first.isHeld, second.isHeld]).toEqual([true, false]);
      await first.stop();
      await eventually(() => second.isHeld);
      expect(lost).toEqual([]);
    }, 30_000);

    test("lets one that is alone go on while it is away, and one of several rest", async () => {
      const settings = await server.database("cut");
      const alone = started(settings, 3);
      await eventually(() => alone.isHeld);
      const cut = () =>
        server.query("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cut'");
      const shut = (allow: boolean) => server.query("postgres", `ALTER DATABASE cut ALLOW_CONNECTIONS ${allow}`);
      await shut(false);
      await cut();
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      expect(alone.isHeld).toBe(true);
      await shut(true);
      await eventually(
        async () =>
          (
            await server.query(
              "postgres",
              "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 1",
            )
          ).rowCount !== 0,
      );
      const other = started(settings, 4);
      // The first sees at its next look that there is another.
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      await shut(false);
      await cut();
      await eventually(() => !alone.isHeld && !other.isHeld);
      await shut(true);
      await eventually(() => alone.isHeld !== other.isHeld);
    }, 60_000);
  },
);
