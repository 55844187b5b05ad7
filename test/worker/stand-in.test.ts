/** The engine of simulated GPUs, as a program of its own. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { freePort } from "../e2e/free-port.ts";

const PROGRAM = new URL("../../src/worker/executors/stand-in.ts", import.meta.url).pathname;

/** @returns asks it at a path. */
async function serving(spec: object) {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-stand-in-"));
  writeFileSync(join(folder, "task.json"), JSON.stringify({ spec }));
  const port = await freePort();
  const env = { PATH: process.env.PATH, TASK_FILE: join(folder, "task.json"), PORT: String(port) };
  const child = spawn(process.execPath, [PROGRAM, "service"], { env, stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return async (path: string, body?: string) => {
    const more = body === undefined ? {} : { method: "POST", body };
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, more);
    return [answer.status, await answer.json()];
  };
}

test("the simulated engine lists its model by the name that its callers send", async () => {
  const flat = await serving({ modelName: "llama2", model: { source: { identifier: "meta/llama2" } } });
  expect(await flat("/v1/models")).toEqual([
    200,
    { simulated: true, object: "list", data: [{ id: "llama2", object: "model" }] },
  ]);
  const service = await serving({ model: { source: { identifier: "org/model" } } });
  expect(await service("/v1/models")).toMatchObject([200, { data: [{ id: "org/model" }] }]);
  const nameless = await serving({});
  expect(await nameless("/v1/models")).toMatchObject([200, { data: [] }]);
});

test("the simulated engine answers what is no JSON with 400, and goes on", async () => {
  const ask = await serving({});
  for (const body of ["{", "7", "null", ""]) {
    expect(await ask("/v1/completions", body), body).toMatchObject([400, { simulated: true }]);
  }
  const answer = await ask("/v1/completions", JSON.stringify({ prompt: "hello" }));
  expect(answer).toMatchObject([200, { simulated: true, choices: [{ text: "SIMULATED: hello" }] }]);
});
