import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import type { Report } from "./committer.ts";

const COMMITTER = fileURLToPath(new URL("./committer.ts", import.meta.url));

export interface Committer {
  readonly process: ChildProcessWithoutNullStreams;
  /** Its next report; an error when it ends without one. */
  next(): Promise<Report>;
  /** Has it commit one turn, and waits for what came of it. */
  ask(): Promise<Report>;
  /** SIGKILL, and waits until it is gone. @returns the reports that nobody had taken yet. */
  kill(): Promise<readonly Report[]>;
}

/** Starts committer.ts on the file at `path`; it is killed at the latest when the test ends. */
export function startCommitter(path: string, mode: "ask" | "loop"): Committer {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", COMMITTER, path, mode]);
  let complaint = "";
  child.stderr.on("data", (data: Buffer) => {
    complaint += data.toString();
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const exit = once(child, "exit");

  async function next(): Promise<Report> {
    const line = await lines.next();
    if (line.done === true) throw new Error(`the committer ended: ${complaint}`);
    return JSON.parse(line.value) as Report;
  }
  async function kill(): Promise<readonly Report[]> {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exit;
    const rest: Report[] = [];
    for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
      rest.push(JSON.parse(line.value) as Report);
    }
    return rest;
  }
  onTestFinished(async () => {
    await kill();
  });
  return {
    process: child,
    next,
    ask() {
      child.stdin.write("\n");
      return next();
    },
    kill,
  };
}
