/**
 * Who this program is, proved to a daemon that cannot ask its kernel: by a directory that this user makes beside the
 * daemon's socket. Its name is of the socket's own path, so that what another socket's owner is given is of no use at
 * this one's.
 */
import { createRequire } from "node:module";

/** In an answer: prove who you are, with this. */
export const PROVE = "gpu-orchestrator-prove";
/** In a request: proved, with that. */
export const PROOF = "gpu-orchestrator-proof";

const load = createRequire(import.meta.url);

/** Where a socket is, without links; as it was given where there is none. */
export function socketAt(path: string): string {
  const { realpathSync } = load("node:fs") as typeof import("node:fs");
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/**
 * Makes the directory that a nonce asks for.
 *
 * @param socketPath what was called: without links.
 * @returns what removes the directory, where the daemon has not.
 * @throws Error when it cannot be made.
 */
export function prove(socketPath: string, nonce: string): () => void {
  const { mkdirSync, rmdirSync } = load("node:fs") as typeof import("node:fs");
  const { createHash } = load("node:crypto") as typeof import("node:crypto");
  const name = createHash("sha256").update(`${nonce}\n${socketPath}`).digest("hex");
  const directory = `${socketPath}.callers/${name}`;
  mkdirSync(directory, { mode: 0o700 });
  return () => {
    try {
      rmdirSync(directory);
    } catch {
      // The daemon has seen it.
    }
  };
}
