/** A real PostgreSQL in its own words: what it refuses, its certificate, and a disk that is full. */
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { addressOf } from "../../../src/controller/store/address.ts";
import { Recorder } from "../../../src/controller/store/history.ts";
import { clientConfig } from "../../../src/controller/store/postgres.ts";
import { HAS_POSTGRES, NEEDS_POSTGRES, startPostgres } from "./postgres-server.ts";
import { eventually, withPostgres } from "./with-postgres.ts";

const SILENT = { error: () => undefined };
const ONE = [{ sql: "SELECT 1 AS one" }];

/** A file system of a few megabytes takes root's rights. */
function canMount(): boolean {
  const folder = mkdtempSync(join(tmpdir(), "controller-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], { stdio: "pipe" });
    execFileSync("umount", [folder], { stdio: "pipe" });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function fill(path: string): void {
  const file = openSync(path, "w");
  try {
    for (let size = 2 ** 20; size >= 512; ) {
      try {
        writeSync(file, Buffer.alloc(size));
      } catch {
        size /= 2;
      }
    }
  } finally {
    closeSync(file);
  }
}

describe.skipIf(!HAS_POSTGRES)(`a PostgreSQL${NEEDS_POSTGRES}`, () => {
  const postgres = withPostgres();
  const { opened } = postgres;

  test("never has its password in an error", async () => {
    const settings = await postgres.server.database("secret");
    expect(addressOf(settings)).toBe(`postgres://root@127.0.0.1:${postgres.server.port}/secret`);
    const wrong = { ...settings, password: "wrong-but-secret-too" };
    const failures = [
      opened(wrong).run(ONE),
      opened({ ...settings, port: 1 }).run(ONE),
      opened({ ...settings, database: "none" }).run(ONE),
      opened(settings).run([{ sql: "SELECT nothing FROM nowhere" }]),
    ];
    for (const failure of await Promise.allSettled(failures)) {
      expect(failure.status).toBe("rejected");
      const { reason } = failure as PromiseRejectedResult;
      expect(`${reason.message} ${reason.stack} ${JSON.stringify(reason)}`).not.toMatch(/not-to-be-seen|wrong-but/);
      expect(reason).toMatchObject({ kind: "away" });
    }
  });

  const NEXT = [{ sql: "UPDATE versions SET last = last + 1" }, { sql: "SELECT last FROM versions" }];

  test("whose table somebody else has locked is away, and has nobody waiting whom we have given up", async () => {
    const settings = await postgres.server.database("locked");
    const database = opened(settings);
    await database.run(ONE);
    const other = new pg.Client({ ...clientConfig(settings), options: "" });
    await other.connect();
    try {
      await other.query("BEGIN; LOCK TABLE orchestration.versions IN ACCESS EXCLUSIVE MODE");
      const asked = await Promise.allSettled([database.run(NEXT), database.run(NEXT), database.run(NEXT)]);
      const away = { status: "rejected", reason: { kind: "away", message: expect.stringMatching(/lock timeout/) } };
      expect(asked).toMatchObject([away, away, away]);
      const waiting = "SELECT pid FROM pg_stat_activity WHERE datname = 'locked' AND wait_event_type = 'Lock'";
      await eventually(async () => (await postgres.server.query("postgres", waiting)).rowCount === 0, 2_000);
      await other.query("ROLLBACK");
      expect((await database.run(NEXT))[1]).toEqual([{ last: 1 }]);
    } finally {
      await other.end();
    }
  }, 30_000);

  test("takes the row of versions from a controller that is stopped in the middle of its change", async () => {
    const settings = await postgres.server.database("stopped");
    const database = opened(settings);
    await database.run(ONE);
    const stopped = new pg.Client(clientConfig(settings));
    const troubles: string[] = [];
    stopped.on("error", ({ message }) => troubles.push(message));
    await stopped.connect();
    await stopped.query("BEGIN; UPDATE versions SET last = last + 1");
    await eventually(() =>
      database.run(NEXT).then(
        () => true,
        () => false,
      ),
    );
    await eventually(() => troubles.join().includes("idle-in-transaction timeout"), 2_000);
    // A statement that the server ends says so, and the next one is answered.
    const ended = [{ sql: "SELECT pg_terminate_backend(pg_backend_pid())" }];
    await expect(database.run(ended)).rejects.toMatchObject({ kind: "away" });
    expect((await database.run(NEXT))[1]).toEqual([{ last: 2 }]);
    expect(await database.run([{ sql: "SHOW tcp_keepalives_idle" }])).toEqual([[{ tcp_keepalives_idle: "5" }]]);
  }, 30_000);

  test.skipIf(!canMount())(
    "whose disk is full is away until it has room again, and nothing is lost (needs mount)",
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "controller-full-"));
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=160m", "tmpfs", folder]);
      const small = await startPostgres({ folder });
      try {
        const database = opened(await small.database("filled"));
        const deployment = () => ONE[0] as { readonly sql: string };
        const recorder = new Recorder({ database, deployment, log: SILENT });
        const told = (count: number) => {
          const event = { deploymentId: "chat", at: new Date().toISOString(), type: "x", reason: "r" };
          recorder.addEvent({ ...event, message: `${count} ${"long".repeat(1_000)}` });
        };
        told(-1);
        await recorder.flush();
        expect(recorder.written).toBe(1);
        const filling = join(folder, "filling");
        fill(filling);
        // More than fits into the log that PostgreSQL has set aside.
        for (let count = 0; count < 9_000; count++) told(count);
        await eventually(async () => {
          await recorder.flush();
          return (
            recorder.written > 1 ||
            (await database.run(ONE).then(
              () => recorder.buffered > 0,
              () => true,
            ))
          );
        });
        await recorder.flush();
        expect(recorder.buffered).toBeGreaterThan(0);
        rmSync(filling);
        // With no room for its log it ends by itself; whoever runs it starts it again.
        if (
          !(await small.query("filled", "SELECT 1").then(
            () => true,
            () => false,
          ))
        )
          await small.restart();
        await eventually(async () => {
          await recorder.flush();
          return recorder.buffered === 0;
        }, 60_000);
        expect(recorder.dropped).toBe(0);
        const { rows } = await small.query("filled", "SELECT count(*)::int FROM orchestration.deployment_events");
        expect(rows).toEqual([{ count: 9_001 }]);
      } finally {
        await small.stop();
        execFileSync("umount", ["-l", folder]);
        rmSync(folder, { recursive: true, force: true });
      }
    },
    120_000,
  );

  test("is spoken to with TLS, and only by a certificate that is trusted", async () => {
    const folder = mkdtempSync(join(tmpdir(), "controller-tls-"));
    const [key, certificate] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2"];
    execFileSync("openssl", [...made, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], {
      stdio: "pipe",
    });
    const guarded = await startPostgres({ tls: { certificate, key } });
    try {
      const settings = await guarded.database("safe");
      await expect(opened(settings).run(ONE)).rejects.toThrow(/no encryption|pg_hba/);
      await expect(opened({ ...settings, tls: { ca: null } }).run(ONE)).rejects.toThrow(/self-signed|certificate/);
      const ca = readFileSync(certificate, "utf8");
      expect(await opened({ ...settings, tls: { ca } }).run(ONE)).toEqual([[{ one: 1 }]]);
    } finally {
      await guarded.stop();
      rmSync(folder, { recursive: true });
    }
  }, 60_000);
});
