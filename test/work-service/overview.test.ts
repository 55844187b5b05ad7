/** `GET /work`, and what the stream of events tells of work. */
import { expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { apiKey, startDaemon } from "../http/daemon.ts";
import { readEvents } from "../http/events/stream.ts";
import { idleWork, NO_METRICS } from "../http/idle-work.ts";

const KEYS = [apiKey("ann-key", "ann", "run"), apiKey("eye-key", "eye", "read")];
const WAITING = ["waiting", "assigned"];
const YAML = { "content-type": "application/yaml" };

function task(name: string): string {
  return `apiVersion: gpu-orchestrator/v1
kind: Task
metadata: {name: ${name}, annotations: {note: nobody-else-reads-this}}
spec: {taskType: echo, executor: echo, resources: {hardware: {gpu: {count: 2}}}}
`;
}

async function started() {
  const clock = new ManualClock();
  const daemon = await startDaemon({
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => KEYS,
    metrics: NO_METRICS,
    work: idleWork(clock),
  });
  const as = (key: string) => ({ "X-API-Key": key });
  /** Nobody takes it: the answer comes when the time that it is held for is over. */
  const submit = async (name: string) => {
    const asked = daemon.call("POST", "/api/v1/tasks", { body: task(name), headers: { ...as("ann-key"), ...YAML } });
    let isAnswered = false;
    void asked.finally(() => {
      isAnswered = true;
    });
    while (!isAnswered) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      clock.advance(500);
    }
    return asked;
  };
  return { clock, daemon, as, submit };
}

test("who may only read sees what there is, and how it stands, but not what was sent", async () => {
  const { daemon, as, submit } = await started();
  const { json: submitted } = await submit("waits");
  const { status, json } = await daemon.call("GET", "/work", { headers: as("eye-key") });
  expect(status).toBe(200);
  expect(json.counts).toEqual({ workloads: 0, open_tasks: 1, tasks: 1, runs: 1 });
  expect(json.tasks).toMatchObject([
    { task_id: submitted.task_id, name: "waits", owner: "ann", status: "PENDING", gpus: 2, cancelling: false },
  ]);
  expect(WAITING).toContain(json.tasks[0].runs[0].state);
  expect(JSON.stringify(json)).not.toContain("nobody-else-reads-this");
});

test("what is open comes first, then what ended, the latest end before the others", async () => {
  const { daemon, as, submit, clock } = await started();
  const ids: string[] = [];
  for (const name of ["first", "second", "third"]) ids.push((await submit(name)).json.task_id);
  for (const id of [ids[1], ids[0]]) {
    clock.advance(1_000);
    await daemon.call("DELETE", `/api/v1/tasks/${id}`, { headers: as("ann-key") });
  }
  const { json } = await daemon.call("GET", "/work", { headers: as("eye-key") });
  const shown = json.tasks.map(({ name, status }: { name: string; status: string }) => `${name} ${status}`);
  expect(shown).toEqual(["third PENDING", "first CANCELLED", "second CANCELLED"]);
  expect(json.counts).toMatchObject({ open_tasks: 1, tasks: 3 });
});

test("the stream of events tells that work has changed, where that is asked for", async () => {
  const { daemon, as, submit } = await started();
  const asking = (query: string) => readEvents(daemon.port, { path: `/gpu/events${query}`, headers: as("eye-key") });
  const [told, alone] = [await asking("?readings=true&work=true"), await asking("")];
  const news = () => told.types.filter((type) => type === "work").length;
  await told.until(() => news() === 1);
  await submit("new");
  await told.until(() => news() > 1);
  expect(told.types).toContain("reading");
  expect(alone.types).not.toContain("work");
});

test("a daemon that runs no work says so to its callers, and its stream has no word of it", async () => {
  const off = await startDaemon();
  expect((await off.call("GET", "/gpu/me")).json.work).toBe(false);
  const reader = await readEvents(off.port, { path: "/gpu/events?readings=true&work=true" });
  await reader.until(({ types }) => types.includes("reading"));
  expect(reader.types).not.toContain("work");
  const { daemon, as } = await started();
  expect((await daemon.call("GET", "/gpu/me", { headers: as("eye-key") })).json.work).toBe(true);
});

test("a list of some goes on with those, and one of what there is not is refused with what there is", async () => {
  const { daemon, as, submit } = await started();
  const headers = as("ann-key");
  for (const name of ["first", "second", "third"]) {
    const { json } = await submit(name);
    if (name !== "second") await daemon.call("DELETE", `/api/v1/tasks/${json.task_id}`, { headers });
  }
  const names: string[] = [];
  for (let path: string | undefined = "/api/v1/tasks?status=cancelled&limit=1"; path !== undefined; ) {
    const answer: Awaited<ReturnType<typeof daemon.call>> = await daemon.call("GET", path, { headers });
    names.push(...answer.json.map(({ name }: { name: string }) => name));
    path = /<([^>]+)>; rel="next"/.exec(String(answer.headers.link ?? ""))?.[1];
  }
  expect(names).toEqual(["third", "first"]);
  for (const name of ["a", "b", "c"]) {
    const body = { name, modelName: "nobody-knows", labels: { team: name === "b" ? "other" : "a&b" } };
    expect((await daemon.call("POST", "/workloads", { body, headers })).status).toBe(201);
  }
  const path = `/workloads?limit=1&label=${encodeURIComponent("team=a&b")}`;
  const { headers: told } = await daemon.call("GET", path, { headers });
  const next = /<([^>]+)>; rel="next"/.exec(String(told.link))?.[1] as string;
  expect((await daemon.call("GET", next, { headers })).json).toMatchObject([{ name: "a" }]);
  for (const wrong of ["/api/v1/tasks?status=GONE", "/runs?state=gone"]) {
    const { status, json } = await daemon.call("GET", wrong, { headers });
    expect([status, json.errors[0].message]).toEqual([422, expect.stringMatching(/^expected one of .*,/)]);
  }
});
