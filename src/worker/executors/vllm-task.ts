/**
 * An inference task: starts the engine that stands behind `--`, waits until it serves, sends it the task's prompts, writes
 * what it answers to `responses.json`, and stops it. Behind `--dataset` stands a command that knows the prompts of a
 * dataset. With nothing behind `--` the engine is a service that runs already, at `PORT`.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

interface Inference {
  readonly prompts?: readonly string[];
  readonly max_tokens?: number;
  readonly temperature?: number;
  readonly top_p?: number;
  readonly top_k?: number;
  readonly presence_penalty?: number;
  readonly frequency_penalty?: number;
  readonly stop?: string | readonly string[];
}

interface Spec {
  readonly inference?: Inference;
  readonly data?: { readonly type?: string; readonly items?: readonly string[]; readonly prompts?: readonly string[] };
  readonly model?: { readonly source?: { readonly identifier?: string } };
}

interface Completion {
  readonly choices?: readonly { readonly text?: string; readonly finish_reason?: string }[];
  readonly usage?: { readonly prompt_tokens?: number; readonly completion_tokens?: number };
}

/** vLLM's own limit for its start is 600 s; compiling may come on top. */
const READY_TIMEOUT_MS = 1_800_000;
const POLL_MS = 500;
/** Prompts under way at once: the engine batches them. */
const CONCURRENCY = 32;
const COMPLETION_TIMEOUT_MS = 3_600_000;
const LIST_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 30_000;

const { TASK_FILE = "", OUT_DIR = ".", PORT = "", GPU_ORCHESTRATOR_HOST = "127.0.0.1", VLLM_MODEL = "" } = process.env;
const HOST = GPU_ORCHESTRATOR_HOST.includes(":") ? `[${GPU_ORCHESTRATOR_HOST}]` : GPU_ORCHESTRATOR_HOST;
const BASE = `http://${HOST}:${PORT}`;
const DATASET_TIMEOUT_MS = 3_600_000;
const MAX_DATASET_BYTES = 2 ** 30;

function write(result: object): void {
  writeFileSync(join(OUT_DIR, "responses.json"), JSON.stringify(result));
}

/** @throws Error when the engine ends first, or takes too long. */
async function untilReady(engine: ChildProcess): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (Date.now() < deadline) {
    if (engine.exitCode !== null || engine.signalCode !== null)
      throw new Error(`the engine ended with ${engine.exitCode ?? engine.signalCode}`);
    const answer = await fetch(`${BASE}/health`, { signal: AbortSignal.timeout(5_000) }).catch(() => null);
    if (answer?.ok) return;
    await sleep(POLL_MS);
  }
  throw new Error(`the engine did not serve within ${READY_TIMEOUT_MS / 1_000} s`);
}

/** What it answers may be had with this key only. Of a service it is the task's own secret of that name; `null`: none. */
let key: string | null = process.env.VLLM_API_KEY ?? null;

function authorization(): Record<string, string> {
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/**
 * The name to ask a service by: `model`, unless it lists others only. Its executor may call it as it likes, and one that an
 * older version started goes by what it loaded.
 */
async function nameAtService(model: string): Promise<string> {
  const limits = { headers: authorization(), signal: AbortSignal.timeout(LIST_TIMEOUT_MS) };
  const answer = await fetch(`${BASE}/v1/models`, limits).catch(() => null);
  const list = (answer?.ok ? await answer.json().catch(() => null) : null) as { data?: { id?: unknown }[] } | null;
  const names = (Array.isArray(list?.data) ? list.data : []).flatMap((one) =>
    typeof one?.id === "string" ? [one.id] : [],
  );
  return names.includes(model) ? model : (names[0] ?? model);
}

async function complete(model: string, prompt: string, inference: Inference): Promise<Completion> {
  const { prompts: _prompts, max_tokens = 512, temperature = 0.7, top_p = 0.95, top_k = -1, ...rest } = inference;
  const answer = await fetch(`${BASE}/v1/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...authorization() },
    body: JSON.stringify({ model, prompt, max_tokens, temperature, top_p, top_k, ...rest }),
    signal: AbortSignal.timeout(COMPLETION_TIMEOUT_MS),
  });
  if (!answer.ok) throw new Error(`the engine answers ${answer.status}: ${(await answer.text()).slice(0, 500)}`);
  return (await answer.json()) as Completion;
}

async function answerAll(model: string, prompts: readonly string[], inference: Inference) {
  const startedAt = performance.now();
  const completions: Completion[] = [];
  let next = 0;
  const one = async () => {
    for (let index = next++; index < prompts.length; index = next++) {
      completions[index] = await complete(model, prompts[index] as string, inference);
    }
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, prompts.length) }, one));
  const sum = (of: "prompt_tokens" | "completion_tokens") =>
    completions.reduce((total, { usage }) => total + (usage?.[of] ?? 0), 0);
  const [prompt_tokens, completion_tokens] = [sum("prompt_tokens"), sum("completion_tokens")];
  return {
    ok: true,
    model,
    items: completions.map(({ choices }, index) => ({
      index,
      output: choices?.[0]?.text ?? "",
      finish_reason: choices?.[0]?.finish_reason ?? null,
    })),
    usage: {
      prompt_tokens,
      completion_tokens,
      total_tokens: prompt_tokens + completion_tokens,
      latency_sec: (performance.now() - startedAt) / 1_000,
      num_requests: prompts.length,
    },
  };
}

/** @throws Error with what the command said last. */
function datasetPrompts([program = "", ...args]: readonly string[]): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const limits = { maxBuffer: MAX_DATASET_BYTES, timeout: DATASET_TIMEOUT_MS };
    execFile(program, args, limits, (error, stdout, stderr) => {
      const last = stderr.trimEnd().split("\n").at(-1);
      if (error !== null) reject(new Error(`the dataset cannot be read: ${last || error.message}`));
      else resolve(JSON.parse(stdout) as readonly string[]);
    });
  });
}

/** What stands behind `name` and before the next of these marks. */
function behind(name: "--dataset" | "--"): string[] {
  const args = process.argv.slice(2);
  const at = args.indexOf(name);
  const end = name === "--" ? args.length : args.indexOf("--");
  return at === -1 ? [] : args.slice(at + 1, end);
}

async function promptsOf({ inference, data }: Spec): Promise<readonly string[]> {
  const given = inference?.prompts ?? data?.items ?? data?.prompts;
  if (given !== undefined) return given;
  const command = behind("--dataset");
  return command.length === 0 ? [] : datasetPrompts(command);
}

async function main(): Promise<number> {
  const { spec } = JSON.parse(readFileSync(TASK_FILE, "utf8")) as { spec: Spec };
  const model = VLLM_MODEL || (spec.model?.source?.identifier ?? "");
  const stopEngine: (() => Promise<void>)[] = [];
  try {
    const prompts = await promptsOf(spec);
    const command = behind("--");
    if (command.length > 0) {
      const engine = startEngine(command);
      stopEngine.push(engine.stop);
      await untilReady(engine.child);
    }
    const name = command.length > 0 ? model : await nameAtService(model);
    write(await answerAll(name, prompts, spec.inference ?? {}));
    return 0;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    console.error(message);
    write({ ok: false, model, error: message });
    return 1;
  } finally {
    for (const stop of stopEngine) await stop();
  }
}

function startEngine([program = "", ...args]: readonly string[]) {
  key = randomBytes(24).toString("hex");
  const child = spawn(program, args, {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, VLLM_API_KEY: key },
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()));
  process.once("SIGTERM", () => child.kill("SIGTERM"));
  const stop = async () => {
    child.kill("SIGTERM");
    await Promise.race([gone, sleep(STOP_TIMEOUT_MS, undefined, { ref: false })]);
  };
  return { child, stop };
}

// What is left of the engine is the cage's to end.
void main().then((code) => process.exit(code));
