/** The books of work are lost, and what runs is not: it is shown, keeps its GPU, and ends when an admin says so. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually, isBuilt, startDaemon, temporaryFolder } from "./daemon.ts";
import { runProgram } from "./program.ts";

const WAIT_MS = 60_000;
const ADMIN = { authorization: "Bearer admins-key-0123456789" };
const ALICE = { authorization: "Bearer alices-key-0123456789" };
const config = `
auth:
  enabled: true
  api_keys:
    admins-key-0123456789: {principal: root, role: admin}
    alices-key-0123456789: {principal: alice, role: run}
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  executors: {sh: {type: process, programs: [/bin/sh]}}
  task_types: {job: sh}
`;

test.skipIf(!isBuilt)(
  "runs of lost books go on until an admin stops or adopts them (needs dist/)",
  { timeout: 240_000 },
  async () => {
    const folder = temporaryFolder();
    let daemon = await startDaemon({ folder, config });
    const spec = {
      taskType: "job",
      command: ["/bin/sh", "-c", "exec sleep 600"],
      resources: { hardware: { gpu: { count: 1 } } },
    };
    const document = { apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name: "job" }, spec };
    const runs = async () => (await daemon.call("GET", "/runs", undefined, ADMIN)).body;
    const leases = async () => (await daemon.call("GET", "/gpu/list", undefined, ADMIN)).body.allocations;
    await eventually(
      async () => (await daemon.call("GET", "/workers", undefined, ADMIN)).body,
      (workers) => workers.length === 1,
      WAIT_MS,
    );
    const submit = async () =>
      (await daemon.call("POST", "/api/v1/tasks", { yaml: JSON.stringify(document) }, ALICE)).body.task_id;
    const [adopted, stopped] = [await submit(), await submit()];
    const runOf = (task: string) => async () =>
      (await runs()).find(({ run_id: id }: { readonly run_id: string }) => id.includes(task));
    type Body = Awaited<ReturnType<typeof daemon.call>>["body"];
    const isRunning = (run: Body) => run?.state === "running";
    const kept = await eventually(runOf(adopted), isRunning, WAIT_MS);
    expect((await daemon.call("POST", `/runs/${kept.run_id}/adopt`, undefined, ADMIN)).body).toMatchObject({
      status: 409,
      code: "run-not-adoptable",
    });
    const { run_id, gpu_uuids } = await eventually(runOf(stopped), isRunning, WAIT_MS);
    await daemon.end("SIGKILL");
    const data = join(folder, "data");
    for (const name of readdirSync(data)) if (/work\.db(-\w+)?$/.test(name)) rmSync(join(data, name));

    daemon = await startDaemon({ folder, config });
    const lost = await eventually(runOf(stopped), isRunning, WAIT_MS);
    expect(lost).toMatchObject({ run_id, state: "running", owner: "alice", gpu_uuids, lost_books: expect.any(String) });
    // Two looks: nobody else is given its GPU.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(await leases()).toHaveLength(2);
    expect((await daemon.call("POST", `/runs/${kept.run_id}/adopt`, undefined, ALICE)).status).toBe(403);
    const gpuo = (...args: readonly string[]) => {
      const key = ADMIN.authorization.slice("Bearer ".length);
      const env = { GPU_ORCHESTRATOR_URL: daemon.url, GPU_ORCHESTRATOR_API_KEY: key, HOME: folder };
      return runProgram(args, { cwd: folder, env });
    };
    const { stdout: listed } = await gpuo("adopt-run");
    for (const id of [kept.run_id, run_id]) expect(listed).toMatch(new RegExp(`^${id} +running +1 +alice `, "m"));
    // Until the worker that has just been started has looked again it does not say what its runs are.
    const adopting = await eventually(
      () => gpuo("adopt-run", kept.run_id),
      ({ end }) => end === 0,
      WAIT_MS,
    );
    expect(adopting.stderr).toContain(`${kept.run_id} is being taken into the books`);
    const task = async () => (await daemon.call("GET", `/api/v1/tasks/${adopted}`, undefined, ALICE)).body;
    expect(await eventually(task, ({ status }) => status === "DISPATCHED", WAIT_MS)).toMatchObject({
      owner: "alice",
      attempts: [{ run_id: kept.run_id, gpu_uuids: kept.gpu_uuids, end_reason: null }],
    });
    expect((await gpuo("adopt-run", kept.run_id)).stderr).toContain("is in these books");
    expect((await daemon.call("POST", `/runs/${run_id}/stop`, undefined, ALICE)).status).toBe(403);
    expect((await daemon.call("POST", `/runs/${run_id}/stop`, undefined, ADMIN)).status).toBe(202);
    await eventually(runOf(stopped), (run) => run === undefined, WAIT_MS);
    await eventually(leases, (all) => all.length === 1, WAIT_MS);
    // Alice has hers again, and ends it as any of hers.
    expect((await daemon.call("DELETE", `/api/v1/tasks/${adopted}`, undefined, ALICE)).status).toBe(200);
    expect(await eventually(task, ({ status }) => status === "CANCELLED", WAIT_MS)).toMatchObject({ exit_code: null });
    await eventually(leases, (all) => all.length === 0, WAIT_MS);
    await daemon.end();
    daemon.removeFolder();
  },
);
