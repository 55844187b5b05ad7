// Serves eight simulated H100s, with services that come and go: so that the page, the API and the metrics show something.
// `--no-life` leaves the host empty; whatever else is given goes to `serve`.
import { spawn } from "node:child_process";
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

const args = process.argv.slice(2);
const isQuiet = args.includes("--no-life");
const program = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", "gpu-orchestrator.js");
const served = args.filter((one) => one !== "--no-life");
const daemon = spawn(process.execPath, [program, "serve", "--simulate", "h100x8", ...served], {
  stdio: ["ignore", "pipe", "inherit"],
});
// A closed terminal sends SIGHUP, on which the daemon would read its settings anew and go on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => daemon.kill("SIGTERM"));
// npm passes signals on, but for the one that nobody can: then it is simply not there any more.
const npm = process.ppid;
setInterval(() => process.ppid !== npm && daemon.kill("SIGTERM"), PARENT_LOOK_MS).unref();
daemon.on("exit", (code, signal) => process.exit(code ?? (signal === null ? 0 : 1)));

createInterface({ input: daemon.stdout }).on("line", (line) => {
  console.log(line);
  const url = /"url":"(http:[^"]+)".*"msg":"serving"/.exec(line)?.[1];
  if (url === undefined) return;
  console.log(
    `the page is at ${url}/, the API at ${url}/docs${isQuiet ? "" : "; services come and go (--no-life: none do)"}`,
  );
  if (!isQuiet) CAST.forEach((one, i) => void comeAndGo(url, one, (i / CAST.length) * ARRIVALS_MS));
});

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
