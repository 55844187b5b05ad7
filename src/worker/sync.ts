/**
 * The worker's side of the long poll: it says all that it has, and hears all that is wanted. Neither side counts on
 * what the other was told before, so that nothing is lost with a message.
 */
import { readFileSync } from "node:fs";
import { request } from "node:http";
import type { RunSeen, RunUsage, WorkerFacts } from "../work/model.ts";
import type { WantedOfWorker } from "../work/wanted.ts";

export interface Report {
  readonly worker: WorkerFacts;
  readonly runs: readonly RunSeen[];
  /** Processes that bear a mark of ours and belong to no folder, stopped since the worker began. */
  readonly orphansStopped: number;
  readonly unkillable: number;
  /** No answer has reached it yet: what the worker before it has begun it may not have seen. */
  readonly isUnanswered: boolean;
  /** By run. */
  readonly usage: Readonly<Record<string, RunUsage>>;
}

export interface Wanted extends WantedOfWorker {
  /** Which books the controller has: runs of others are left alone, but for what it says of them. */
  readonly books: string;
  /** Runs of lost books that an admin has stopped or adopted, and those that are over. */
  readonly strangers?: {
    readonly stop: readonly string[];
    readonly settle: readonly string[];
    /** To be of these books from now on; left out by a daemon of an older version. */
    readonly adopt?: readonly string[];
    /** Strangers again: these books have no place for them; left out by a daemon of an older version. */
    readonly disown?: readonly string[];
  };
}

export class SupersededError extends Error {}

/** An answer is held for at most a few seconds by the other side; nothing at all for so long, and it is asked anew. */
const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 256 * 2 ** 20;

/** @throws SupersededError when a newer worker of this node has come; anything else: the daemon is not there. */
export function syncOnce(socketPath: string, tokenPath: string, report: Report, signal: AbortSignal): Promise<Wanted> {
  const body = JSON.stringify(report);
  const token = readFileSync(tokenPath, "utf8").trim();
  return new Promise((resolve, reject) => {
    const headers = {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
      Authorization: `Bearer ${token}`,
    };
    const call = request(
      { socketPath, method: "POST", path: "/sync", headers, signal, timeout: TIMEOUT_MS },
      (answer) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        answer.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > MAX_ANSWER_BYTES) call.destroy(new Error("the answer is too large"));
          else chunks.push(chunk);
        });
        answer.on("error", reject);
        answer.on("end", () => {
          if (answer.statusCode === 409) reject(new SupersededError("a newer worker serves this node"));
          else if (answer.statusCode !== 200) reject(new Error(`the daemon answers ${answer.statusCode}`));
          else resolve(JSON.parse(Buffer.concat(chunks).toString("utf8")) as Wanted);
        });
      },
    );
    call.on("timeout", () => call.destroy(new Error("the daemon does not answer")));
    call.on("error", reject);
    call.end(body);
  });
}
