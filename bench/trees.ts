/** The builds that are compared: this one, and one of another commit in a folder of its own. */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

export interface Tree {
  /** As the tables call it. */
  readonly name: string;
  readonly folder: string;
  remove(): void;
}

const git = (...args: string[]) => execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).trim();

export function thisTree(): Tree {
  const dirty = git("status", "--porcelain", "--", "src") === "" ? "" : " and changes";
  return { name: `${git("rev-parse", "--short", "HEAD")}${dirty}`, folder: ROOT, remove: () => undefined };
}

/**
 * A build of `commit`, made of the dependencies that its own lock names where they differ from ours.
 *
 * @throws when git does not know the commit, or it does not build.
 */
export function treeOf(commit: string): Tree {
  const name = git("rev-parse", "--short", `${commit}^{commit}`);
  const folder = mkdtempSync(join(tmpdir(), `gpu-orchestrator-${name}-`));
  git("worktree", "add", "--force", "--detach", folder, name);
  const remove = () => {
    git("worktree", "remove", "--force", folder);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const sameLock = git("diff", "--name-only", name, "--", "package-lock.json") === "";
    if (sameLock) symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
    else execFileSync("npm", ["ci", "--loglevel=error"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
    execFileSync(process.execPath, ["scripts/build.mjs"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
    // The stand-in for nvidia-smi is the same for all.
    const stand = "test/fixtures/fake-nvidia-smi.mjs";
    if (!existsSync(join(folder, stand))) cpSync(join(ROOT, stand), join(folder, stand));
  } catch (error) {
    remove();
    throw error;
  }
  return { name, folder, remove };
}
