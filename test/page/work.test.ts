/** Work on the page: how it stands, live, its logs, what may be done to it and by whom. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually, type TestDaemon } from "../e2e/daemon.ts";
import { findings } from "./axe.ts";
import { closeBrowser, isLive, missing, openPage, soon, started, tabTo } from "./browser.ts";

const KEYS = {
  ann: "ann-key-0123456789",
  bob: "bob-key-0123456789",
  eye: "eye-key-0123456789",
  root: "root-key-0123456789",
};
type Who = keyof typeof KEYS;
const CONFIG = `
auth:
  enabled: true
  api_keys:
    ${KEYS.ann}: {principal: ann, role: run}
    ${KEYS.bob}: {principal: bob, role: run}
    ${KEYS.eye}: {principal: eye, role: read}
    ${KEYS.root}: {principal: root, role: admin}
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  executors: { sh: {type: process, programs: [/bin/sh]}, sim: {type: simulated} }
  task_types: { job: sh }
  models: { tiny: {executor: sim, readiness: {http: /health, interval: 200ms}} }
`;
/** Programs are started, which takes its time on a busy machine. */
const LONG_MS = 240_000;

afterAll(closeBrowser);

async function startedWork(): Promise<TestDaemon> {
  const daemon = await started({ simulate: "h100x2", config: CONFIG });
  await eventually(
    () => call(daemon, "root", "GET", "/workers"),
    ({ body }) => body.length === 1,
    60_000,
  );
  // Runs outlive the daemon, and are to end with the test.
  onTestFinished(async () => {
    const { body } = await call(daemon, "root", "GET", "/work");
    for (const { id } of body.workloads) await call(daemon, "root", "DELETE", `/workloads/${id}`);
    for (const { task_id } of body.tasks) await call(daemon, "root", "DELETE", `/api/v1/tasks/${task_id}`);
    const left = async () => (await call(daemon, "root", "GET", "/work")).body.counts.runs;
    await eventually(left, (runs) => runs === 0, 60_000);
  });
  return daemon;
}

function call(daemon: TestDaemon, who: Who, method: string, path: string, body?: unknown) {
  return daemon.call(method, path, body, { "x-api-key": KEYS[who] });
}

async function opened(daemon: TestDaemon, who: Who, width = 1_280): Promise<Page> {
  const page = await openPage(daemon.url, { key: KEYS[who], width });
  await isLive(page);
  return page;
}

/** Sends a task of ann's that runs `script`. @returns its id. */
async function submit(daemon: TestDaemon, name: string, script: string, gpus = 1): Promise<string> {
  const spec = {
    taskType: "job",
    command: ["/bin/sh", "-c", script],
    resources: { hardware: { gpu: { count: gpus } } },
  };
  const yaml = JSON.stringify({ apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name }, spec });
  const { body } = await call(daemon, "ann", "POST", "/api/v1/tasks", { yaml });
  expect(body).toMatchObject({ ok: true });
  return body.task_id;
}

/** Waits until the API has the task so; what the page then shows soon is the page's own doing. */
function taskIs(daemon: TestDaemon, id: string, state: string) {
  const look = async () => {
    const { body } = await call(daemon, "ann", "GET", "/work");
    const task = body.tasks.find(({ task_id }: { task_id: string }) => task_id === id);
    return [task.status, ...task.runs.map((run: { state: string }) => run.state)];
  };
  return eventually(look, (states) => states.includes(state), 120_000);
}

/** A script that goes on when the test makes that file. */
function waitsFor(daemon: TestDaemon, name: string) {
  const path = join(daemon.folder, name);
  return { script: `while [ ! -e ${path} ]; do sleep 0.05; done`, go: () => writeFileSync(path, "") };
}

function row(page: Page, name: string): Locator {
  return page.locator("#work tbody tr", { has: page.locator("th", { hasText: name }) });
}

async function confirm(page: Page, verb: string): Promise<void> {
  const dialog = page.getByRole("dialog").filter({ has: page.locator('button[type="submit"]') });
  await dialog.getByRole("button", { name: verb, exact: true }).click();
  await dialog.waitFor({ state: "detached" });
}

describe.skipIf(missing !== null)(`work on the page in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  test("a task is seen from the queue over its run to its end, and its log as it is written", {
    timeout: LONG_MS,
  }, async () => {
    const daemon = await startedWork();
    const page = await opened(daemon, "ann");
    await page.getByText("Nothing has been sent to run.").waitFor();
    const [talk, end] = [waitsFor(daemon, "talk"), waitsFor(daemon, "end")];
    const first = await submit(
      daemon,
      "first",
      `echo begins; ${talk.script}; echo talks >&2; ${end.script}; echo ends`,
      2,
    );
    await soon(row(page, "first"));
    await taskIs(daemon, first, "running");
    await soon(row(page, "first").filter({ hasText: /running.*0, 1/s }));
    await submit(daemon, "second", "echo hello", 2);
    await soon(row(page, "second").filter({ hasText: /waiting.*wants 2.*position 1: .*waiting for 2 GPUs/s }));
    await row(page, "first").getByRole("button", { name: "Log" }).click();
    const log = page.getByRole("dialog").getByRole("log");
    await log.getByText("begins").waitFor();
    talk.go();
    // It must have been written, which the page is not to blame for.
    await eventually(
      () => call(daemon, "ann", "GET", `/api/v1/tasks/${first}/logs`),
      ({ body }) => body.includes("talks"),
    );
    await soon(log.locator(".stderr", { hasText: "talks" }));
    await page.getByRole("button", { name: "stdout", exact: true }).click();
    await log.locator(".stderr").waitFor({ state: "detached" });
    end.go();
    await taskIs(daemon, first, "DONE");
    await soon(page.getByRole("dialog").getByText("exited"));
    await log.getByText("ends", { exact: true }).waitFor();
    await page.keyboard.press("Escape");
    await soon(row(page, "first").filter({ hasText: /done.*after/s }));
  });

  test("what is asked to stop is asked about first, and stops", { timeout: LONG_MS }, async () => {
    const daemon = await startedWork();
    const page = await opened(daemon, "ann");
    const task = await submit(daemon, "endless", "exec sleep 1000");
    await taskIs(daemon, task, "running");
    await row(page, "endless").getByRole("button", { name: "Cancel" }).click();
    await page.getByText("Its program is stopped first").waitFor();
    await page.keyboard.press("Escape");
    expect((await call(daemon, "ann", "GET", `/api/v1/tasks/${task}`)).body.status).toBe("DISPATCHED");
    await row(page, "endless").getByRole("button", { name: "Cancel" }).click();
    await confirm(page, "Cancel the task");
    await taskIs(daemon, task, "CANCELLED");
    await soon(row(page, "endless").filter({ hasText: "cancelled" }));

    const workload = { id: "chat", name: "chat", modelName: "tiny", resources: { cpu: "1", memory: "1Gi", gpu: 1 } };
    await call(daemon, "ann", "POST", "/workloads", workload);
    const look = () => call(daemon, "ann", "GET", "/workloads/chat");
    const ready = await eventually(look, ({ body }) => body.status.readyReplicas === 1, 120_000);
    await soon(row(page, "chat").filter({ hasText: /running.*1 of 1 ready/s }));
    await row(page, "chat").getByRole("button", { name: "The runs of chat" }).click();
    await page.getByText(`replica 0`).waitFor();
    await page.getByText(ready.body.status.nodes[0].url).waitFor();
    await row(page, "chat").getByRole("button", { name: "Log" }).click();
    await page.getByRole("button", { name: "Stop this run" }).click();
    await confirm(page, "Stop the run");
    await page.getByRole("dialog").getByText("cancelled").waitFor();
    await page.keyboard.press("Escape");
    await row(page, "chat").getByRole("button", { name: "Stop" }).click();
    await confirm(page, "Stop the service");
    await row(page, "chat").waitFor({ state: "detached" });
    expect((await look()).status).toBe(404);
  });

  test("whoever may not touch it sees that it is there, and neither its log nor a way to stop it", {
    timeout: LONG_MS,
  }, async () => {
    const daemon = await startedWork();
    await taskIs(daemon, await submit(daemon, "secret-job", "echo a-secret; exec sleep 1000"), "running");
    const offered = async (who: Who) => {
      const page = await opened(daemon, who);
      await row(page, "secret-job").filter({ hasText: "running" }).waitFor();
      await row(page, "secret-job").getByRole("button", { name: "The runs of" }).click();
      const names = await page.locator("#work tbody button").allInnerTexts();
      // The rest of each name says whose it is.
      return names.map((name) => name.trim().split(/\s/)[0]).filter((verb) => verb !== "");
    };
    expect(await offered("eye")).toEqual([]);
    expect(await offered("bob")).toEqual([]);
    expect(await offered("ann")).toEqual(["Log", "Cancel", "Log"]);
    expect(await offered("root")).toEqual(["Log", "Cancel", "Log"]);
    const without = await openPage((await started()).url);
    await isLive(without);
    expect(await without.locator("#work").count()).toBe(0);
  });

  test("what a program writes is text and nothing else, and the page stays as wide as it is", {
    timeout: LONG_MS,
  }, async () => {
    const daemon = await startedWork();
    const hostile = `printf '%s\\n' "<img src=x onerror=\\"document.title='caught'\\">"; printf '\\033[31mred\\033[0m\\n'`;
    const long = `i=0; while [ $i -lt 300 ]; do printf xxxxxxxxxx; i=$((i+1)); done; echo`;
    const task = await submit(daemon, "y".repeat(100), `${hostile}; ${long}`);
    await taskIs(daemon, task, "DONE");
    const page = await opened(daemon, "ann", 360);
    await row(page, "yyyy").getByRole("button", { name: "Log" }).click();
    const log = page.getByRole("dialog").getByRole("log");
    await log.getByText("<img src=x").waitFor();
    await log.getByText("red", { exact: true }).waitFor();
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.title()).toMatch(/GPUs free/);
    const wider = (of: string) => page.evaluate(`${of}.scrollWidth - ${of}.clientWidth`);
    expect(await wider("document.documentElement")).toBe(0);
    expect(await wider('document.querySelector(".log")')).toBe(0);
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press("Escape");
    expect(await findings(page)).toEqual([]);
  });

  test("with the keyboard alone a log is opened, scrolled and closed, and a task is cancelled", {
    timeout: LONG_MS,
  }, async () => {
    const daemon = await startedWork();
    const task = await submit(
      daemon,
      "endless",
      "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000",
    );
    await taskIs(daemon, task, "running");
    const page = await opened(daemon, "ann");
    await row(page, "endless").waitFor();
    await tabTo(page, /^Log /);
    await page.keyboard.press("Enter");
    await page.getByRole("log").getByText("line 199").waitFor();
    await tabTo(page, /What the run has written/);
    await page.keyboard.press("Home");
    const top = () => page.evaluate("document.querySelector('.log').scrollTop");
    await eventually(
      async () => top(),
      (at) => at === 0,
    );
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(await page.evaluate("document.activeElement.textContent")).toBe("Log endless");
    await tabTo(page, /^Cancel (?!the task)/);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await tabTo(page, /^Cancel the task$/);
    await page.keyboard.press("Enter");
    await taskIs(daemon, task, "CANCELLED");
  });
});
