/** The built program's `backup` and `restore` with work in it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon, temporaryFolder } from "./daemon.ts";
import { runProgram } from "./program.ts";

const config = `
storage: {path: state.db}
work:
  enabled: true
  allow_unauthenticated: true
  allow_root: true
  allow_same_user: true
  executors:
    sh: {type: process, programs: [/bin/sh]}
  task_types: {job: sh}
`;

test.skipIf(!isBuilt)(
  "a restored task has failed when what lived of it is gone, and its GPU is free again (needs the built program)",
  { timeout: 120_000 },
  async () => {
    const folder = temporaryFolder();
    let daemon = await startDaemon({ folder, config });
    onTestFinished(async () => {
      await daemon.end();
      daemon.removeFolder();
    });
    const submit = async (command: string, gpus: number) => {
      const hardware = gpus === 0 ? {} : { gpu: { count: gpus } };
      const spec = {
        taskType: "job",
        command: ["/bin/sh", "-c", command],
        resources: { hardware },
        stop: { grace: "1s" },
      };
      const yaml = JSON.stringify({ apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name: "job" }, spec });
      return (await daemon.call("POST", "/api/v1/tasks", { yaml })).body.task_id as string;
    };
    const becomes = (id: string, wanted: (task: Record<string, unknown>) => boolean) =>
      eventually(
        async () => (await daemon.call("GET", `/api/v1/tasks/${id}`)).body,
        (task) => wanted(task),
        60_000,
      );
    const over = await submit("exit 0", 0);
    await becomes(over, ({ status }) => status === "DONE");
    const live = await submit("exec sleep 600", 1);
    await becomes(live, ({ attempts }) => (attempts as { started_at: string | null }[])[0]?.started_at != null);
    const copy = join(folder, "copy.db");
    const settings = ["--config", join(folder, "config.yaml")];
    const made = await runProgram(["backup", copy, ...settings], { cwd: folder });
    expect([made.end, made.stderr]).toEqual([0, ""]);
    const late = await submit("exec sleep 600", 1);
    await becomes(late, ({ attempts }) => (attempts as { started_at: string | null }[])[0]?.started_at != null);
    await daemon.end();

    const restored = await runProgram(["restore", copy, ...settings], { cwd: folder });
    expect([restored.end, restored.stdout]).toEqual([0, expect.stringContaining("the books of work too")]);
    daemon = await startDaemon({ folder, config });
    expect(await becomes(live, ({ status }) => status === "FAILED")).toMatchObject({ error: "outcome-unknown" });
    expect((await daemon.call("GET", `/api/v1/tasks/${over}`)).body).toMatchObject({ status: "DONE" });
    expect((await daemon.call("GET", `/api/v1/tasks/${late}`)).status).toBe(404);
    await eventually(
      async () => (await daemon.call("GET", "/gpu/list")).body,
      ({ allocations }) => allocations.length === 0,
      60_000,
    );
    // What came after the backup is in no books: it is stopped, and counted.
    await eventually(
      async () => String((await daemon.call("GET", "/metrics")).body),
      (page) => /gpu_orchestrator_work_orphans_stopped(?:_total)? [1-9]/.test(page),
      60_000,
    );
  },
);

test.skipIf(!isBuilt)(
  "a restored service begins anew only when what was begun of it since the backup is gone (needs the built program)",
  { timeout: 120_000 },
  async () => {
    const folder = temporaryFolder();
    let daemon = await startDaemon({ folder, config });
    onTestFinished(async () => {
      await daemon.end();
      daemon.removeFolder();
    });
    const [pids, overlaps] = [join(folder, "pids"), join(folder, "overlaps")];
    const command = [
      `for other in $(cat ${pids} 2>/dev/null); do kill -0 $other 2>/dev/null && echo $other >> ${overlaps}; done`,
      `echo $$ >> ${pids}`,
      "trap '' TERM",
      "while :; do sleep 0.1; done",
    ].join("\n");
    const spec = {
      executor: "sh",
      command: ["/bin/sh", "-c", command],
      resources: { hardware: { gpu: { count: 1 } } },
      restart: { policy: "always", backoff: "100ms" },
      stop: { grace: "3s" },
    };
    const document = { apiVersion: "gpu-orchestrator/v1", kind: "Service", metadata: { name: "service" }, spec };
    const { id } = (await daemon.call("POST", "/workloads", document)).body;
    const running = async () => {
      const runs = (await daemon.call("GET", "/runs")).body as { run_id: string; state: string }[];
      return runs.flatMap(({ run_id, state }) => (state === "running" ? [run_id] : []));
    };
    const newRun = async (but: readonly (string | undefined)[]) => {
      const found = await eventually(running, (runs) => runs.some((run) => !but.includes(run)), 60_000);
      return found.find((run) => !but.includes(run));
    };
    const first = await newRun([]);
    const copy = join(folder, "copy.db");
    const settings = ["--config", join(folder, "config.yaml")];
    expect((await runProgram(["backup", copy, ...settings], { cwd: folder })).end).toBe(0);
    await daemon.call("POST", `/runs/${first}/stop`);
    const second = await newRun([first]);
    await daemon.end();
    expect((await runProgram(["restore", copy, ...settings], { cwd: folder })).end).toBe(0);

    daemon = await startDaemon({ folder, config });
    await newRun([first, second]);
    expect(readFileSync(pids, "utf8").trim().split("\n")).toHaveLength(3);
    expect(existsSync(overlaps)).toBe(false);
    await daemon.call("DELETE", `/workloads/${id}`);
    await eventually(
      async () => (await daemon.call("GET", "/gpu/list")).body,
      ({ allocations }) => allocations.length === 0,
      60_000,
    );
  },
);
