/**
 * Two controllers with one PostgreSQL, on a real control plane: what is in the database is what is in the cluster, and neither
 * the database's death nor the leader's keeps anybody waiting.
 */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  HAS_POSTGRES,
  NEEDS_POSTGRES,
  PASSWORD,
  startPostgres,
  type TestPostgres,
} from "../controller/store/postgres-server.ts";
import { isBuilt } from "../e2e/daemon.ts";
import { isPlaneThere, until } from "./control-plane.ts";
import { type Any, strayWrites, type TestController } from "./controller.ts";
import { NAMESPACE, Story } from "./story.ts";

const LONG_MS = 420_000;
vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });

let story: Story;
let server: TestPostgres;
/** That which does not lead. */
let other: TestController;

const leads = ({ log }: TestController) => log.some(({ msg }) => msg === "this controller leads");
const rowsIn = async (sql: string) => (await server.query("controllers", sql)).rows as Any[];
const health = async () => (await story.controller.get("/health")).body;

/** The tables as they stand say what is there. */
async function isShown(name: string, replicas: number): Promise<boolean> {
  const [row] = await rowsIn(`SELECT * FROM orchestration.deployments WHERE deployment_id = '${name}'`);
  const pods = await rowsIn(
    `SELECT pod_name, status FROM orchestration.pod_allocations
     WHERE deployment_id = '${name}' AND terminated_at IS NULL ORDER BY pod_name`,
  );
  const there = story.kubelet.pods
    .filter(({ metadata }) => metadata.namespace === NAMESPACE && metadata.deletionTimestamp === undefined)
    .map(({ metadata }) => metadata.name);
  const nodes = await rowsIn("SELECT gpus_allocated FROM orchestration.gpu_nodes WHERE status = 'ready'");
  const used = nodes.reduce((sum, { gpus_allocated: gpus }) => sum + gpus, 0);
  if (row === undefined) throw new Error("no row of it");
  expect([row.ready_replicas, row.status, nodes.length, used]).toEqual([replicas, "running", 2, replicas]);
  expect(pods.map(({ pod_name: pod }) => pod)).toEqual(there.toSorted());
  return true;
}

describe.skipIf(!isPlaneThere || !isBuilt || !HAS_POSTGRES)(
  `controllers with a PostgreSQL${NEEDS_POSTGRES} (npm run test:cluster builds the plane)`,
  () => {
    const begun = (name: string) =>
      story.start(name, [], {
        ...{ DB_HOST: "127.0.0.1", DB_PORT: String(server.port), DB_NAME: "controllers", DB_USER: "root" },
        ...{ DB_PASSWORD: PASSWORD, DB_SSL: "disable", RESOURCE_TRACK_INTERVAL: "1" },
      });

    beforeAll(async () => {
      server = await startPostgres();
      await server.database("controllers");
      story = await Story.begin({ n1: 4, n2: 4 });
      await story.controller.stop();
      story.controller = await begun("one");
      await story.isUp();
      await until("it leads", () => leads(story.controller));
      other = await begun("two");
    });
    afterAll(async () => {
      await other?.stop();
      await story?.end();
      await server?.stop();
    });

    test("show in its tables what is there, by the hand of the one that leads", async () => {
      await story.serves("chat", 2);
      await until("the tables say so", () => isShown("chat", 2), 60_000);
      expect(leads(other)).toBe(false);
      expect((await health()).components.database).toBe("healthy");
    });

    test("do without it while it is dead, and tell it everything afterwards, once", async () => {
      process.kill(server.pid, "SIGKILL");
      await story.change("chat", { replicas: 4 });
      await story.ready("chat", 4);
      await until("its health says so", async () => (await health()).status === "degraded");
      expect(await story.metric("database_up")).toBe(0);
      expect(await story.metric("database_buffered_rows")).toBeGreaterThan(0);
      expect((await story.controller.get("/readyz")).status).toBe(200);
      await server.restart();
      await until("nothing waits any more", async () => (await story.metric("database_buffered_rows")) === 0);
      expect(await story.metric("database_dropped_rows_total")).toBe(0);
      await until("the tables say so", () => isShown("chat", 4), 60_000);
      const events = await rowsIn(
        "SELECT from_replicas, to_replicas, status FROM orchestration.scaling_events ORDER BY id",
      );
      expect(events).toEqual([{ from_replicas: 2, to_replicas: 4, status: "success" }]);
    });

    test("hand over when the leader is killed while the database is dead", async () => {
      process.kill(server.pid, "SIGKILL");
      await story.controller.stop("SIGKILL");
      story.controller = other;
      await until("the other leads", () => leads(other), 60_000);
      await story.change("chat", { replicas: 3 });
      await story.ready("chat", 3);
      await server.restart();
      other = await begun("three");
      await until("the tables say so", () => isShown("chat", 3), 60_000);
      expect(strayWrites(story.plane)).toEqual([]);
    });

    test("keep what has ended when the workload is deleted", async () => {
      await story.remove("chat");
      await until("it is terminated", async () => {
        const [row] = await rowsIn("SELECT * FROM orchestration.deployments WHERE deployment_id = 'chat'");
        return row.status === "terminated" && row.terminated_at !== null;
      });
      const left = await rowsIn("SELECT 1 FROM orchestration.pod_allocations WHERE terminated_at IS NULL");
      expect(left).toEqual([]);
    });
  },
);
