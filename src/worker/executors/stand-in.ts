/**
 * What runs where nothing real does: `echo` answers with its prompts, `service` and `task` stand in for an engine on
 * simulated GPUs. Whatever it answers says that it is simulated.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

interface TaskDocument {
  readonly metadata?: { readonly name?: string };
  readonly spec?: {
    readonly inference?: { readonly prompts?: readonly string[] };
    readonly data?: { readonly items?: readonly string[]; readonly prompts?: readonly string[] };
    readonly model?: { readonly source?: { readonly identifier?: string } };
    /** Of a workload. */
    readonly modelName?: string;
  };
}

const {
  TASK_FILE = "",
  OUT_DIR = ".",
  PORT = "0",
  GPU_ORCHESTRATOR_HOST = "127.0.0.1",
  GPU_ORCHESTRATOR_RUN = "",
  /** By the executor's `env`; else as long as somebody who tries it out wants to see it run. */
  SIMULATED_SECONDS = "2",
} = process.env;

const MAX_BODY_BYTES = 16 * 2 ** 20;

function document(): TaskDocument {
  return JSON.parse(readFileSync(TASK_FILE, "utf8")) as TaskDocument;
}

function answer(simulated: boolean): void {
  const { spec } = document();
  const prompts = spec?.inference?.prompts ?? spec?.data?.items ?? spec?.data?.prompts ?? [];
  const items = prompts.map((output, index) => ({ index, output, finish_reason: "stop" }));
  const count = prompts.reduce((sum, prompt) => sum + prompt.split(/\s+/).filter(Boolean).length, 0);
  const usage = {
    prompt_tokens: count,
    completion_tokens: count,
    total_tokens: 2 * count,
    latency_sec: 0,
    num_requests: items.length,
  };
  const model = spec?.model?.source?.identifier ?? null;
  writeFileSync(
    join(OUT_DIR, "responses.json"),
    JSON.stringify({ ok: true, ...(simulated ? { simulated } : {}), model, items, usage }),
  );
}

function serve(): void {
  const server = createServer((req, res) => void reply(req, res));
  server.listen(Number(PORT), GPU_ORCHESTRATOR_HOST, () =>
    console.log(`SIMULATED: listening on ${PORT} as ${GPU_ORCHESTRATOR_RUN}`),
  );
  process.once("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

/** What it has really done, in the names of the engine that it stands in for. Nothing ever waits here. */
let running = 0;
let answered = 0;

function metricsPage(): string {
  return [
    "# TYPE vllm:num_requests_running gauge",
    `vllm:num_requests_running{model_name="simulated"} ${running}`,
    "# TYPE vllm:num_requests_waiting gauge",
    'vllm:num_requests_waiting{model_name="simulated"} 0',
    "# TYPE vllm:request_success_total counter",
    `vllm:request_success_total{model_name="simulated"} ${answered}`,
    "",
  ].join("\n");
}

/** As vLLM lists it: what callers are to send as `model`. */
function models(): object[] {
  const { modelName, model } = document().spec ?? {};
  const id = modelName || model?.source?.identifier;
  return id === undefined ? [] : [{ id, object: "model" }];
}

/** `null`: it has not come whole, or is longer than any prompt. */
async function textOf(req: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of req) {
      bytes += (chunk as Buffer).length;
      if (bytes <= MAX_BODY_BYTES) chunks.push(chunk as Buffer);
    }
  } catch {
    return null;
  }
  return bytes > MAX_BODY_BYTES ? null : Buffer.concat(chunks).toString();
}

function completion(text: string | null): [number, object] {
  const asked = ((): { prompt?: unknown } | null => {
    try {
      return JSON.parse(text ?? "") as { prompt?: unknown } | null;
    } catch {
      return null;
    }
  })();
  if (asked === null || typeof asked !== "object") return [400, { error: "the body is no JSON object" }];
  const choices = [{ index: 0, text: `SIMULATED: ${asked.prompt ?? ""}`, finish_reason: "stop" }];
  return [200, { choices, usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } }];
}

async function reply(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const json = (status: number, body: object) => {
    res.writeHead(status, { "Content-Type": "application/json" });
    res.end(JSON.stringify(body));
  };
  if (req.url === "/health") json(200, { simulated: true });
  else if (req.url === "/v1/models") json(200, { simulated: true, object: "list", data: models() });
  else if (req.url === "/metrics") {
    res.writeHead(200, { "Content-Type": "text/plain; version=0.0.4" });
    res.end(metricsPage());
  } else if (req.url === "/v1/completions" && req.method === "POST") {
    running++;
    res.once("close", () => running--);
    const [status, body] = completion(await textOf(req));
    if (status === 200) answered++;
    json(status, { simulated: true, ...body });
  } else json(404, { simulated: true, error: "there is no such path" });
}

async function run(mode: string | undefined): Promise<void> {
  if (mode === "echo") answer(false);
  else if (mode === "service") serve();
  else if (mode === "task") {
    console.log("SIMULATED: nothing is computed");
    const seconds = Number(SIMULATED_SECONDS);
    for (let second = 1; second <= seconds; second++) {
      await sleep(1_000);
      console.log(`SIMULATED: second ${second} of ${seconds}`);
    }
    answer(true);
  } else {
    console.error("echo, service or task?");
    process.exitCode = 64;
  }
}

void run(process.argv[2]);
