/** A real PostgreSQL: empty, the second seed's, of another version, and in all the ways in which it can be away. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addressOf, type PostgresSettings } from "../../../src/controller/store/address.ts";
import { Recorder } from "../../../src/controller/store/history.ts";
import { DatabaseLock } from "../../../src/controller/store/lock.ts";
import { PostgresDatabase } from "../../../src/controller/store/postgres.ts";
import { deploymentNoted, ResourceTracker } from "../../../src/controller/store/tracker.ts";
import { node, replica, workload } from "../objects.ts";
import { HAS_POSTGRES, NEEDS_POSTGRES, PASSWORD, startPostgres, type TestPostgres } from "./postgres-server.ts";
import { MODEL, SECOND_SEED, SECOND_SEED_SQL, TENANT } from "./second-seed.ts";

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };
const ONE = [{ sql: "SELECT 1 AS one" }];

async function eventually(holds: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const until = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > until) throw new Error(`not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe.skipIf(!HAS_POSTGRES)(`a PostgreSQL${NEEDS_POSTGRES}`, () => {
  let server: TestPostgres;
  const ends: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(async () => {
    for (const end of ends) await end();
    await server.stop();
  });

  function opened(settings: PostgresSettings): PostgresDatabase {
    const database = new PostgresDatabase(settings);
    ends.push(() => database.close());
    return database;
  }

  const columnsIn = async (database: string) => {
    const { rows } = await server.query(
      database,
      `SELECT table_name || '.' || column_name AS name, data_type || coalesce(character_maximum_length::text, '') AS type
       FROM information_schema.columns WHERE table_schema = 'orchestration' ORDER BY 1`,
    );
    return new Map(rows.map(({ name, type }) => [name, type]));
  };

  test("that is empty gets the schema, once, also when several controllers begin at the same time", async () => {
    const settings = await server.database("empty");
    const controllers = Array.from({ length: 5 }, () => opened(settings));
    await Promise.all(controllers.map((one) => one.run(ONE)));
    const columns = await columnsIn("empty");
    expect(columns.get("pod_allocations.tenant_id")).toBe("character varying255");
    expect(columns.get("objects.version")).toBe("bigint");
    const { rows } = await server.query("empty", "SELECT version FROM orchestration.controller_migrations ORDER BY 1");
    expect(rows).toEqual([{ version: 1 }, { version: 2 }, { version: 3 }]);
  });

  test("whose user may not make schemas is used where there is one", async () => {
    const settings = await server.database("granted");
    await server.query("granted", `CREATE ROLE little LOGIN PASSWORD '${PASSWORD}'`);
    await server.query("granted", "CREATE SCHEMA orchestration AUTHORIZATION little");
    await opened({ ...settings, user: "little" }).run(ONE);
    expect((await columnsIn("granted")).has("deployments.deployment_id")).toBe(true);
  });

  test("of a newer version is left alone", async () => {
    const settings = await server.database("newer");
    await opened(settings).run(ONE);
    await server.query("newer", "INSERT INTO orchestration.controller_migrations VALUES (99)");
    await expect(opened(settings).run(ONE)).rejects.toThrow("newer version (99; this one knows 3)");
  });

  describe("of the Orchestration Service", () => {
    let database: PostgresDatabase;
    const rowsIn = async (table: string) => {
      const [rows = []] = await database.run([{ sql: `SELECT * FROM ${table} ORDER BY id` }]);
      return rows;
    };
    beforeAll(async () => {
      const settings = await server.database("adopted");
      for (const sql of SECOND_SEED) await server.query("adopted", sql);
      database = opened(settings);
      await database.run(ONE);
    });

    test("is adopted: its rows are kept, ids become words, and our columns are there", async () => {
      const fresh = await columnsIn("empty");
      const columns = await columnsIn("adopted");
      expect([...fresh].filter(([name, type]) => columns.get(name) !== type)).toEqual([]);
      expect(await rowsIn("deployments")).toMatchObject([
        { deployment_id: "vllm-old", tenant_id: TENANT, status: "running", vllm_config: '{"dtype":"auto"}', uid: null },
      ]);
      expect(await rowsIn("pod_allocations")).toMatchObject([
        { allocation_id: "alloc-1", model_id: MODEL, tenant_id: TENANT, node_id: "node-uid", gpu_indices: "[0]" },
      ]);
      const { rows } = await server.query("adopted", "SELECT request_count::text FROM orchestration.pod_allocations");
      expect(rows).toEqual([{ request_count: "9007199254740993" }]);
      expect((await server.query("adopted", "SELECT * FROM alembic_version")).rows).toHaveLength(1);
    });

    test("is no other for its own SQL being run again over it", async () => {
      const before = [await columnsIn("adopted"), await rowsIn("deployments")];
      for (let times = 0; times < 2; times++) for (const sql of SECOND_SEED_SQL) await server.query("adopted", sql);
      expect([await columnsIn("adopted"), await rowsIn("deployments")]).toEqual(before);
      // Nor does ours.
      await opened(await adoptedSettings()).run(ONE);
      expect([await columnsIn("adopted"), await rowsIn("deployments")]).toEqual(before);
    });

    const adoptedSettings = async (): Promise<PostgresSettings> => ({
      ...{ host: "127.0.0.1", port: server.port, database: "adopted", user: "root", password: PASSWORD },
      ...{ schema: "orchestration", tls: null },
    });

    test("goes on with what is there now, and touches no row of what is not", async () => {
      const nodes = [node({ name: "node-uid" })];
      const tracks = [
        { revision: "r", wanted: 2, replicas: [replica("p", "waiting"), replica("q", "ready", { node: "node-uid" })] },
      ];
      const tracker = new ResourceTracker({
        ...{ database, objects: { workloads: () => [workload()] } as never, leads: () => true, now: () => Date.now() },
        seen: () => ({ nodes, tracksOf: () => tracks, loadOf: () => [], isolates: false, serviceOf: () => null }),
        ...{ everyMs: 60_000, log: { error: (facts) => expect(facts).toBeNull() } },
      });
      await tracker.track();
      expect(await rowsIn("gpu_nodes")).toMatchObject([
        { node_id: "node-uid", cluster: "local", gpu_count: 8 },
        { node_id: "node-away", cluster: null, status: "not_ready" },
      ]);
      expect(await rowsIn("deployments")).toMatchObject([
        { deployment_id: "vllm-old", status: "running", terminated_at: null },
        { deployment_id: "chat" },
      ]);
      expect((await rowsIn("pod_allocations")).map(({ pod_name: name }) => name)).toEqual(["vllm-old-1", "p", "q"]);
      const recorder = new Recorder({
        database,
        deployment: (id, tenant, at) => deploymentNoted({ workloads: () => [] } as never, id, tenant, at),
        log: SILENT,
      });
      await recorder.prune(Date.now() + 1_000 * 86_400_000);
      expect(await rowsIn("deployments")).toHaveLength(2);
    });
  });

  test("never has its password in an error", async () => {
    const settings = await server.database("secret");
    expect(addressOf(settings)).toBe(`postgres://root@127.0.0.1:${server.port}/secret`);
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

  describe("that several controllers of one host have", () => {
    const locks: DatabaseLock[] = [];
    const lost: number[] = [];
    const started = (settings: PostgresSettings, name: number) => {
      const lock = new DatabaseLock(settings, SILENT, () => lost.push(name));
      lock.start();
      locks.push(lock);
      return lock;
    };
    afterAll(() => Promise.all(locks.map((lock) => lock.stop())));

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
  });

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
