// Serves eight simulated H100s, with services that come and go: so that the page, the API and the metrics show something.
// `--no-life` leaves the host empty; whatever else is given goes to `serve`. Without settings of yours it also runs work: a
// service and task after task, of which nothing is computed. With it everybody on this machine may run what is simulated.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/**
 * Who comes, again and again: what each asks for, how long it stays and is away, in seconds. The first five have six GPUs
 * at most, so that whoever tries the demo gets one; the widest comes last, so that somebody waits.
 */
const CAST = [
  {
    isService: true,
    ask: {
      service_name: "chat-serving",
      workload_type: "inference",
      required_gpus: 2,
      min_memory_mb: 61_440,
      priority: 8,
    },
    stays: [300, 900],
    away: [20, 60],
  },
  {
    isTask: true,
    ask: { service_name: "vision-training", workload_type: "training", min_memory_mb: 40_960 },
    stays: [120, 420],
    away: [10, 40],
  },
  {
    ask: { service_name: "search-embeddings", workload_type: "embedding", sharing: "shared", min_memory_mb: 12_288 },
    stays: [60, 240],
    away: [10, 40],
  },
  {
    ask: { service_name: "reranker", workload_type: "inference", sharing: "shared", min_memory_mb: 16_384 },
    stays: [60, 240],
    away: [10, 40],
  },
  { ask: { service_name: "invoice-ocr", workload_type: "ocr", priority: 6 }, stays: [20, 90], away: [10, 40] },
  {
    ask: {
      service_name: "nightly-finetune",
      workload_type: "training",
      required_gpus: 6,
      min_memory_mb: 65_536,
      priority: 2,
      preemptible: true,
    },
    stays: [30, 60],
    away: [30, 90],
  },
];
/** A service that is killed with the demo leaves its GPUs after this, in seconds. */
const TTL_SECONDS = 30;
const LOOK_MS = 5_000;
/** How often to look whether whoever started the demo is still there. */
const PARENT_LOOK_MS = 500;
/** Between the first and the last who come at the start. */
const ARRIVALS_MS = 4_000;

/** What the daemon is to run itself: a service and tasks that are simulated, and nothing else. */
const SETTINGS = `
work:
  enabled: true
  allow_unauthenticated: true
  allow_same_user: true
  allow_root: true
  executors:
    simulated: {type: simulated}
    echo: {type: echo}
    simulated-task: {type: simulated, env: {SIMULATED_SECONDS: "45"}}
    # What templates/ names, so that each of them can be tried.
    vllm: {type: simulated}
    embeddings: {type: simulated}
    notebook: {type: simulated}
    torchrun: {type: simulated}
  task_types: {training: simulated-task, inference: simulated, ppo: simulated, echo: echo}
  models: {"*": {executor: simulated, readiness: {http: /health, interval: 1s}}}
`;
const SERVICE = {
  id: "chat-serving",
  name: "chat-serving",
  modelName: "simulated-8b",
  modelType: "text-generation",
  replicas: 2,
  resources: { cpu: "4000m", memory: "8Gi", gpu: 1, gpu_memory_mb: 61_440 },
};
/** What the tasks are called, one after the other. */
const TASKS = ["vision-training", "evaluate-checkpoint", "caption-images"];
const TASK = {
  apiVersion: "gpu-orchestrator/v1",
  kind: "Task",
  spec: {
    taskType: "training",
    max_duration: "2m",
    gpu_memory_mb: 40_960,
    resources: { hardware: { gpu: { count: 1 } } },
  },
};
/** What the demo began is ended within this when it ends, in ms: runs outlive the daemon. */
const ENDING_MS = 6_000;

const args = process.argv.slice(2);
const isQuiet = args.includes("--no-life");
const program = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", "gpu-orchestrator.js");
const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-demo-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const settings = join(folder, "config.yaml");
writeFileSync(settings, SETTINGS);
const runsWork = !isQuiet && mayRunWork();
const served = [...args.filter((one) => one !== "--no-life"), ...(runsWork ? ["--config", settings] : [])];
let serving = null;
// In a group of its own: Ctrl-C is for the demo, which ends what it began before the daemon stops.
const daemon = spawn(process.execPath, [program, "serve", "--simulate", "h100x8", ...served], {
  stdio: ["ignore", "pipe", "inherit"],
  detached: true,
});
// A closed terminal sends SIGHUP, on which the daemon would read its settings anew and go on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, end);
// npm passes signals on, but for the one that nobody can: then it is simply not there any more.
const npm = process.ppid;
setInterval(() => process.ppid !== npm && end(), PARENT_LOOK_MS).unref();
daemon.on("exit", (code, signal) => process.exit(code ?? (signal === null ? 0 : 1)));

createInterface({ input: daemon.stdout }).on("line", (line) => {
  console.log(line);
  const url = /"url":"(http:[^"]+)".*"msg":"serving"/.exec(line)?.[1];
  if (url === undefined) return;
  serving = url;
  console.log(
    `the page is at ${url}/, the API at ${url}/docs${isQuiet ? "" : "; services come and go (--no-life: none do)"}`,
  );
  if (isQuiet) return;
  CAST.forEach((one, i) => {
    if (runsWork && one.isService) void keepService(url);
    else if (runsWork && one.isTask) void sendTasks(url, one);
    else void comeAndGo(url, one, (i / CAST.length) * ARRIVALS_MS);
  });
});

/** Settings of yours, and a host that others reach, are not the demo's to open; nor can every place run work. */
function mayRunWork() {
  if (args.some((one) => /^--(config|host)\b/.test(one))) return false;
  return spawnSync(process.execPath, [program, "check-config", settings]).status === 0;
}

let isEnding = false;
async function end() {
  if (isEnding) return;
  isEnding = true;
  if (runsWork && serving !== null) await Promise.race([endWork(serving), sleep(ENDING_MS)]).catch(() => undefined);
  daemon.kill("SIGTERM");
}

async function endWork(url) {
  const look = async () => (await fetch(`${url}/work`)).json();
  await fetch(`${url}/workloads/${SERVICE.id}`, { method: "DELETE" });
  for (const { task_id, name, status } of (await look()).tasks) {
    const isOpen = status === "PENDING" || status === "DISPATCHED";
    if (isOpen && TASKS.includes(name)) await fetch(`${url}/api/v1/tasks/${task_id}`, { method: "DELETE" });
  }
  while ((await look()).counts.runs > 0) await sleep(100);
}

async function send(url, body) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { ok: answer.ok, ...(await answer.json()) };
}

/** It is there already when the demo before was killed. */
async function keepService(url) {
  const { ok, code, detail } = await send(`${url}/workloads`, SERVICE);
  if (!ok && code !== "workload-exists") console.error(`demo: ${SERVICE.name} was refused: ${detail}`);
}

async function sendTasks(url, { away }) {
  for (let sent = 0; !isEnding; sent++) {
    try {
      const metadata = { name: TASKS[sent % TASKS.length] };
      const { task_id } = await send(`${url}/api/v1/tasks`, { ...TASK, metadata });
      const path = `${url}/api/v1/tasks/${task_id}?wait=30s`;
      for (let isOpen = true; isOpen && !isEnding; ) {
        const { status } = await (await fetch(path)).json();
        isOpen = status === "PENDING" || status === "DISPATCHED";
      }
    } catch {
      // As below.
    }
    await sleep(between(away) * 1_000);
  }
}

async function comeAndGo(url, { ask, stays, away }, firstMs) {
  const call = async (method, path, body) => {
    const answer = await fetch(url + path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    return { ok: answer.ok, ...(await answer.json()) };
  };
  await sleep(firstMs);
  for (;;) {
    const seconds = between(stays);
    try {
      await visit(call, ask, seconds);
    } catch {
      // The daemon is not there any more, and this process ends with it.
    }
    await sleep(between(away) * 1_000);
  }
}

/** One stay, from asking to giving back. */
async function visit(call, ask, seconds) {
  const limits = { ttl: `${TTL_SECONDS}s`, max_duration: `${Math.ceil(seconds * 1.5)}s` };
  const { ok, id, detail } = await call("POST", "/gpu/allocate", { ...ask, ...limits });
  if (!ok) {
    console.error(`demo: ${ask.service_name} was refused: ${detail}`);
    return;
  }
  let until = null;
  for (;;) {
    // The owner's look at its record takes an offer, and shows life while it waits.
    const { status } = await call("GET", `/gpu/allocations/${id}`);
    if (status === undefined || status === "ended") return;
    if (status === "leased") {
      until ??= Date.now() + seconds * 1_000;
      if (Date.now() >= until) break;
      await call("POST", `/gpu/allocations/${id}/renew`, {});
    }
    await sleep(LOOK_MS);
  }
  await call("DELETE", `/gpu/allocations/${id}`);
}

function between([from, to]) {
  return Math.round(from + Math.random() * (to - from));
}
