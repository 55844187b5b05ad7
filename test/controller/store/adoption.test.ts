/** What becomes of a PostgreSQL at the first connection: empty, the second seed's, or of another version. */
import { beforeAll, describe, expect, test } from "vitest";
import type { PostgresSettings } from "../../../src/controller/store/address.ts";
import { Recorder } from "../../../src/controller/store/history.ts";
import type { PostgresDatabase } from "../../../src/controller/store/postgres.ts";
import { deploymentNoted, ResourceTracker } from "../../../src/controller/store/tracker.ts";
import { lookOf, node, replica, workload } from "../objects.ts";
import { HAS_POSTGRES, NEEDS_POSTGRES, PASSWORD } from "./postgres-server.ts";
import { MODEL, SECOND_SEED, SECOND_SEED_SQL, TENANT } from "./second-seed.ts";
import { withPostgres } from "./with-postgres.ts";

const ONE = [{ sql: "SELECT 1 AS one" }];
const SILENT = { error: () => undefined };

describe.skipIf(!HAS_POSTGRES)(`a PostgreSQL${NEEDS_POSTGRES}`, () => {
  const postgres = withPostgres();
  const { opened } = postgres;

  const columnsIn = async (database: string) => {
    const { rows } = await postgres.server.query(
      database,
      `SELECT table_name || '.' || column_name AS name, data_type || coalesce(character_maximum_length::text, '') AS type
       FROM information_schema.columns WHERE table_schema = 'orchestration' ORDER BY 1`,
    );
    return new Map(rows.map(({ name, type }) => [name, type]));
  };

  test("that is empty gets the schema, once, also when several controllers begin at the same time", async () => {
    const settings = await postgres.server.database("empty");
    const controllers = Array.from({ length: 5 }, () => opened(settings));
    await Promise.all(controllers.map((one) => one.run(ONE)));
    const columns = await columnsIn("empty");
    expect(columns.get("pod_allocations.tenant_id")).toBe("character varying255");
    expect(columns.get("objects.version")).toBe("bigint");
    const { rows } = await postgres.server.query(
      "empty",
      "SELECT version FROM orchestration.controller_migrations ORDER BY 1",
    );
    expect(rows).toEqual([{ version: 1 }, { version: 2 }, { version: 3 }]);
  });

  test("that is ours is no other for the Orchestration Service's SQL being run over it", async () => {
    await opened(await postgres.server.database("ours")).run(ONE);
    const before = await columnsIn("ours");
    for (let times = 0; times < 2; times++) for (const sql of SECOND_SEED_SQL) await postgres.server.query("ours", sql);
    expect(await columnsIn("ours")).toEqual(before);
  });

  test("whose user may not make schemas is used where there is one", async () => {
    const settings = await postgres.server.database("granted");
    await postgres.server.query("granted", `CREATE ROLE little LOGIN PASSWORD '${PASSWORD}'`);
    await postgres.server.query("granted", "CREATE SCHEMA orchestration AUTHORIZATION little");
    await opened({ ...settings, user: "little" }).run(ONE);
    expect((await columnsIn("granted")).has("deployments.deployment_id")).toBe(true);
  });

  test("of a newer version is left alone", async () => {
    const settings = await postgres.server.database("newer");
    await opened(settings).run(ONE);
    await postgres.server.query("newer", "INSERT INTO orchestration.controller_migrations VALUES (99)");
    await expect(opened(settings).run(ONE)).rejects.toThrow("newer version (99; this one knows 3)");
  });

  describe("of the Orchestration Service", () => {
    let database: PostgresDatabase;
    const rowsIn = async (table: string) => {
      const [rows = []] = await database.run([{ sql: `SELECT * FROM ${table} ORDER BY id` }]);
      return rows;
    };
    beforeAll(async () => {
      const settings = await postgres.server.database("adopted");
      for (const sql of SECOND_SEED) await postgres.server.query("adopted", sql);
      database = opened(settings);
      await database.run(ONE);
    });

    test("is adopted: its rows are kept, ids become words, and our columns are there", async () => {
      const fresh = await columnsIn("empty");
      const columns = await columnsIn("adopted");
      expect([...fresh].filter(([name, type]) => columns.get(name) !== type)).toEqual([]);
      expect(await rowsIn("deployments")).toMatchObject([
        { deployment_id: "vllm-old", tenant_id: TENANT, status: "running", vllm_config: '{"dtype":"auto"}', uid: null },
        { deployment_id: "vllm-ended", status: "terminated", terminated_at: "2025-11-20T10:00:00.123Z" },
      ]);
      expect(await rowsIn("pod_allocations")).toMatchObject([
        { allocation_id: "alloc-1", model_id: MODEL, tenant_id: TENANT, node_id: "node-uid", gpu_indices: "[0]" },
      ]);
      const { rows } = await postgres.server.query(
        "adopted",
        "SELECT request_count::text FROM orchestration.pod_allocations",
      );
      expect(rows).toEqual([{ request_count: "9007199254740993" }]);
      expect((await postgres.server.query("adopted", "SELECT * FROM alembic_version")).rows).toHaveLength(1);
    });

    test("is no other for its own SQL being run again over it", async () => {
      const before = [await columnsIn("adopted"), await rowsIn("deployments")];
      for (let times = 0; times < 2; times++)
        for (const sql of SECOND_SEED_SQL) await postgres.server.query("adopted", sql);
      expect([await columnsIn("adopted"), await rowsIn("deployments")]).toEqual(before);
      // Nor does ours.
      await opened(await adoptedSettings()).run(ONE);
      expect([await columnsIn("adopted"), await rowsIn("deployments")]).toEqual(before);
    });

    test("of its first versions has scaling events, which are kept, and ours go beside them for any tenant", async () => {
      const settings = await postgres.server.database("early");
      const early = [
        ...SECOND_SEED,
        `CREATE TABLE orchestration.scaling_events (
          id serial PRIMARY KEY, event_id varchar(255) NOT NULL UNIQUE,
          deployment_id varchar(255) NOT NULL REFERENCES orchestration.deployments (deployment_id) ON DELETE CASCADE,
          tenant_id uuid NOT NULL, scaling_type varchar(50) NOT NULL, from_replicas int NOT NULL, to_replicas int NOT NULL,
          trigger_reason text, trigger_metrics json, status varchar(50) NOT NULL, error_message text,
          initiated_at timestamp NOT NULL DEFAULT now(), completed_at timestamp)`,
        "CREATE INDEX ix_scaling_events_tenant ON orchestration.scaling_events (tenant_id)",
        `INSERT INTO orchestration.scaling_events (event_id, deployment_id, tenant_id, scaling_type, from_replicas, to_replicas,
          status) VALUES ('old', 'vllm-old', '${TENANT}', 'scheduled', 1, 2, 'success')`,
      ];
      for (const sql of early) await postgres.server.query("early", sql);
      const taken = opened(settings);
      const objects = { workloads: () => [workload()] } as never;
      const recorder = new Recorder({
        database: taken,
        deployment: (id, tenant, at) => deploymentNoted(objects, id, tenant, at),
        log: { error: (facts) => expect(facts).toBeNull() },
      });
      recorder.beginScaling({
        ...{
          eventId: "new",
          deploymentId: "chat",
          tenantId: "acme",
          scalingType: "manual",
          fromReplicas: 1,
          toReplicas: 3,
        },
        ...{ triggerReason: "by hand", triggerMetrics: {}, initiatedAt: "2026-01-01T00:00:00.000Z" },
      });
      await recorder.close();
      expect(await recorder.scalings({ limit: 10 })).toMatchObject([
        { eventId: "new", tenantId: "acme", status: "in_progress" },
        { eventId: "old", tenantId: TENANT, scalingType: "scheduled", triggerReason: "", triggerMetrics: {} },
      ]);
    });

    const adoptedSettings = async (): Promise<PostgresSettings> => ({
      ...{ host: "127.0.0.1", port: postgres.server.port, database: "adopted", user: "root", password: PASSWORD },
      ...{ schema: "orchestration", tls: null },
    });

    test("goes on with what is there now, and touches no row of what is not", async () => {
      const nodes = [node({ name: "node-uid" })];
      const tracks = [
        { revision: "r", wanted: 2, replicas: [replica("p", "waiting"), replica("q", "ready", { node: "node-uid" })] },
      ];
      const tracker = new ResourceTracker({
        ...{ database, objects: { workloads: () => [workload()] } as never, leads: () => true, now: () => Date.now() },
        seen: () => lookOf({ nodes, tracksOf: () => tracks }),
        ...{ everyMs: 60_000, log: { error: (facts) => expect(facts).toBeNull() } },
      });
      await tracker.track();
      expect(await rowsIn("gpu_nodes")).toMatchObject([
        { node_id: "node-uid", cluster: "local", gpu_count: 8 },
        { node_id: "node-away", cluster: null, status: "not_ready" },
      ]);
      expect(await rowsIn("deployments")).toMatchObject([
        { deployment_id: "vllm-old", status: "running", terminated_at: null },
        { deployment_id: "vllm-ended", status: "terminated" },
        { deployment_id: "chat" },
      ]);
      expect((await rowsIn("pod_allocations")).map(({ pod_name: name }) => name)).toEqual(["vllm-old-1", "p", "q"]);
      const recorder = new Recorder({
        database,
        deployment: (id, tenant, at) => deploymentNoted({ workloads: () => [] } as never, id, tenant, at),
        log: SILENT,
      });
      await recorder.prune(Date.now() + 1_000 * 86_400_000);
      expect(await rowsIn("deployments")).toHaveLength(3);
    });
  });
});
