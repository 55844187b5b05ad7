/** Which of several controllers of one host decides. */
import { describe, expect, test } from "vitest";
import type { PostgresSettings } from "../../../src/controller/store/address.ts";
import { DatabaseLock } from "../../../src/controller/store/lock.ts";
import { HAS_POSTGRES, NEEDS_POSTGRES } from "./postgres-server.ts";
import { Way } from "./way.ts";
import { eventually, withPostgres } from "./with-postgres.ts";

/** Their classes. */
const [DECIDES, IS_HERE] = [0x47707543, 0x47707548];
const SILENT = { info: () => undefined, warn: () => undefined };

/** Looks every few milliseconds, from now until it is asked. @returns how often several of them decided at once. */
function watched(...locks: readonly DatabaseLock[]): () => number {
  let together = 0;
  const timer = setInterval(() => {
    if (locks.filter((lock) => lock.isHeld).length > 1) together++;
  }, 3);
  return () => {
    clearInterval(timer);
    return together;
  };
}

describe.skipIf(!HAS_POSTGRES)(
  `the lock of a database that several controllers of one host have${NEEDS_POSTGRES}`,
  () => {
    const postgres = withPostgres();
    const lost: number[] = [];
    const started = (settings: PostgresSettings, name: number) => {
      const lock = new DatabaseLock(settings, SILENT, () => lost.push(name));
      lock.start();
      postgres.atEnd(() => lock.stop());
      return lock;
    };

    test("lets one decide, and the next when it ends", async () => {
      const settings = await postgres.server.database("locked");
      const first = started(settings, 1);
      await eventually(() => first.isHeld);
      const second = started(settings, 2);
      const together = watched(first, second);
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      expect([first.isHeld, second.isHeld]).toEqual([true, false]);
      await first.stop();
      expect(first.isHeld).toBe(false);
      await eventually(() => second.isHeld);
      expect(together()).toBe(0);
      expect(lost).toEqual([]);
    }, 30_000);

    test("lets one in each schema decide", async () => {
      const settings = await postgres.server.database("schemas");
      const [one, other] = [started(settings, 5), started({ ...settings, schema: "of_another_host" }, 6)];
      await eventually(() => one.isHeld && other.isHeld);
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      await postgres.server.query("postgres", "ALTER DATABASE schemas ALLOW_CONNECTIONS false");
      await postgres.server.query(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'schemas'",
      );
      await new Promise((resolve) => setTimeout(resolve, 500));
      // Each is alone on its host.
      expect([one.isHeld, other.isHeld]).toEqual([true, true]);
    }, 30_000);

    test("never lets two decide, also when one that was cut off comes back slowly", async () => {
      const settings = await postgres.server.database("slow");
      const way = new Way(postgres.server.port);
      const cutOff = started({ ...settings, port: await way.open() }, 7);
      try {
        await eventually(() => cutOff.isHeld);
        const other = started(settings, 8);
        const together = watched(cutOff, other);
        // The first sees at its next look that there is another.
        await new Promise((resolve) => setTimeout(resolve, 3_000));
        way.cut();
        await eventually(() => other.isHeld);
        Object.assign(way, { isCut: false, delayMs: 250 });
        const here = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted";
        await eventually(
          async () =>
            (
              await postgres.server.query(
                "slow",
                `${here} AND classid = ${IS_HERE} AND database = (SELECT oid FROM pg_database WHERE datname = 'slow')`,
              )
            ).rowCount === 2,
        );
        await new Promise((resolve) => setTimeout(resolve, 2_000));
        expect(together()).toBe(0);
        expect([cutOff.isHeld, other.isHeld]).toEqual([false, true]);
      } finally {
        await cutOff.stop();
        await way.close();
      }
    }, 60_000);

    test("lets one that is alone go on while it is away, and one of several rest", async () => {
      const settings = await postgres.server.database("cut");
      const alone = started(settings, 3);
      await eventually(() => alone.isHeld);
      const cut = () =>
        postgres.server.query(
          "postgres",
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cut'",
        );
      const shut = (allow: boolean) =>
        postgres.server.query("postgres", `ALTER DATABASE cut ALLOW_CONNECTIONS ${allow}`);
      await shut(false);
      await cut();
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      expect(alone.isHeld).toBe(true);
      await shut(true);
      await eventually(
        async () =>
          (
            await postgres.server.query(
              "postgres",
              `SELECT 1 FROM pg_locks WHERE classid = ${DECIDES} AND granted AND database = (SELECT oid FROM pg_database WHERE datname = 'cut')`,
            )
          ).rowCount !== 0,
      );
      const other = started(settings, 4);
      const together = watched(alone, other);
      // The first sees at its next look that there is another.
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      await shut(false);
      await cut();
      await eventually(() => !alone.isHeld && !other.isHeld);
      await shut(true);
      await eventually(() => alone.isHeld !== other.isHeld);
      expect(together()).toBe(0);
    }, 60_000);
  },
);
