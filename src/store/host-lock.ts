/**
 * Two daemons with a database each would lease the same GPUs twice: who watches a host's GPUs locks them for its user.
 *
 * The lock is of the program that shows the GPUs, whatever database and settings go with it, and goes with the process.
 * Another user's daemon is not seen, and the folder may be closed to this one: then there is no lock, and that is said.
 */
import { createHash } from "node:crypto";
import { existsSync, lstatSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { StoreRefusedError } from "./errors.ts";
import { lockFileOf, takeLock } from "./open.ts";

const LOCKS = "/run/lock";

export interface HostLock {
  /** Why there is none; `null`: it is held. */
  readonly missing: string | null;
  release(): void;
}

/**
 * @param program the path of `nvidia-smi`.
 * @throws StoreRefusedError when another daemon of this user has the GPUs.
 */
export function lockHost(program: string, folder = existsSync(LOCKS) ? LOCKS : tmpdir()): HostLock {
  const name = createHash("sha256").update(program).digest("hex").slice(0, 16);
  const file = join(folder, `gpu-orchestrator-${process.getuid?.() ?? 0}-${name}`);
  const lockFile = lockFileOf(file);
  const found = lstatSync(lockFile, { throwIfNoEntry: false });
  // Everybody may write there: what somebody else made could be held against this daemon.
  if (found !== undefined && (!found.isFile() || found.uid !== process.getuid?.())) {
    return { missing: `${lockFile} is not this user's`, release: () => undefined };
  }
  let lock: DatabaseSync;
  try {
    lock = takeLock(file);
  } catch (error) {
    if (error instanceof StoreRefusedError && error.reason === "in-use") {
      throw new StoreRefusedError(
        "in-use",
        file,
        `another gpu-orchestrator of this user leases the GPUs that ${program} shows: stop that one first (its lock is ${lockFile})`,
      );
    }
    const why = (error as Error).message;
    const words = `${lockFile} cannot be made (${why}): let the daemon write to ${folder} (systemd: ReadWritePaths=)`;
    return { missing: words, release: () => undefined };
  }
  // Its holder may have taken it away with it while this one waited for it: then it is nobody's.
  if (!existsSync(lockFile)) {
    lock.close();
    return lockHost(program, folder);
  }
  return {
    missing: null,
    release: () => {
      if (!lock.isOpen) return;
      rmSync(lockFile, { force: true });
      lock.close();
    },
  };
}
