/** Programs that use a GPU, by python3 with torch. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** A program that has a GPU before it, and is not on it until it is told to. */
export interface Load {
  readonly pid: number;
  /** Takes memory, and keeps it. */
  hold(mib: number): Promise<void>;
  /** Computes as hard as it can. */
  work(seconds: number): Promise<void>;
  /** By SIGKILL; returns when the process is gone. */
  kill(): Promise<void>;
}

/** Starts one on the GPU with this UUID. */
export type Loads = (uuid: string) => Promise<Load>;

const PROGRAM = fileURLToPath(new URL("./load.py", import.meta.url));
const PROBE = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 3)";
const PROBE_TIMEOUT_MS = 60_000;

/** How programs are started here, or why none can be. */
export function loadsHere(): Loads | string {
  const { error, status } = spawnSync("python3", ["-c", PROBE], { timeout: PROBE_TIMEOUT_MS });
  if (error !== undefined) return `python3 cannot be run (${(error as NodeJS.ErrnoException).code})`;
  if (status === 3) return "torch sees no GPU";
  return status === 0 ? startLoad : "python3 has no torch";
}

async function startLoad(uuid: string): Promise<Load> {
  const child = spawn("python3", [PROGRAM], {
    env: { ...process.env, CUDA_VISIBLE_DEVICES: uuid },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const gone = once(child, "close");
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answered = async (wanted: string) => {
    const { value } = await answers.next();
    if (value !== wanted) throw new Error(`the program on the GPU ended or said ${JSON.stringify(value)}`);
  };
  await answered("ready");
  const tell = (line: string) => {
    child.stdin.write(`${line}\n`);
    return answered("done");
  };
  return {
    pid: child.pid as number,
    hold: (mib) => tell(`hold ${mib}`),
    work: (seconds) => tell(`work ${seconds}`),
    async kill() {
      child.kill("SIGKILL");
      await gone;
    },
  };
}
