/** Whether a service serves: asked over HTTP, on the port that it was given. */
import { request } from "node:http";
import type { Probes } from "./folder.ts";

const READINESS_TIMEOUT_MS = 5_000;
/** More of an answer than this is not read. */
const MAX_ANSWER_BYTES = 65_536;

/** Whether a GET is answered with a 2xx. */
export async function answersWell(
  host: string,
  port: number,
  path: string,
  timeoutMs = READINESS_TIMEOUT_MS,
): Promise<boolean> {
  const status = await ask(host, port, "GET", path, null, timeoutMs);
  return status !== null && status >= 200 && status < 300;
}

/**
 * Whether one token comes, of a model that serves `/v1/completions`: engines answer `/health` while they are stuck.
 *
 * @param key that its callers must have; left out: none.
 */
export async function completes(
  { host, model }: Probes,
  port: number,
  timeoutMs: number,
  key: string | undefined,
): Promise<boolean> {
  const body = JSON.stringify({ model, prompt: "1", max_tokens: 1 });
  const status = await ask(host, port, "POST", "/v1/completions", body, timeoutMs, key);
  return status !== null && status >= 200 && status < 300;
}

function ask(
  host: string,
  port: number,
  method: string,
  path: string,
  body: string | null,
  timeoutMs: number,
  key?: string,
): Promise<number | null> {
  return new Promise((resolve) => {
    const headers = {
      ...(body === null ? {} : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }),
      ...(key === undefined ? {} : { Authorization: `Bearer ${key}` }),
    };
    const call = request({ host, port, method, path, headers, agent: false }, (answer) => {
      let bytes = 0;
      answer.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) done(answer.statusCode ?? null);
      });
      answer.on("end", () => done(answer.statusCode ?? null));
      answer.on("error", () => done(null));
    });
    const deadline = setTimeout(() => done(null), timeoutMs);
    const done = (status: number | null) => {
      clearTimeout(deadline);
      call.destroy();
      resolve(status);
    };
    call.on("error", () => done(null));
    call.end(body ?? undefined);
  });
}
