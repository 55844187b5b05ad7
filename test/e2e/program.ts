import { spawn } from "node:child_process";
import { once } from "node:events";
import { PROGRAM } from "./daemon.ts";

export interface Ended {
  /** The exit code, or the signal that ended it. */
  readonly end: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Record<string, string>;
  /** What to put before the command. */
  readonly under?: readonly string[];
}

/** Starts a verb of the built program that ends by itself. */
export function startProgram(args: readonly string[], { cwd, env = {}, under = [] }: RunOptions) {
  const [program = "", ...rest] = [...under, process.execPath, PROGRAM, ...args];
  const child = spawn(program, rest, { cwd, env: { PATH: process.env.PATH ?? "", ...env }, stdio: "pipe" });
  const output = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].on("data", (data: Buffer) => {
      output[stream] += data.toString();
    });
  }
  const ended = once(child, "close").then(([code, signal]): Ended => ({ end: code ?? signal, ...output }));
  return { process: child, ended };
}

export function runProgram(args: readonly string[], options: RunOptions): Promise<Ended> {
  return startProgram(args, options).ended;
}
