// Makes a fresh clone runnable: installs the locked dependencies when they changed, then builds.
// Plain JavaScript on purpose: it runs on whatever Node the machine has, before the pinned one is here.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const stamp = join(root, "node_modules", ".installed-lock");
const lock = createHash("sha256")
  .update(readFileSync(join(root, "package-lock.json")))
  .digest("hex");
const run = (command, args) =>
  execFileSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, PATH: `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH}` },
  });

try {
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== lock) {
    run("npm", ["ci", "--loglevel=error"]);
    writeFileSync(stamp, lock);
  }
  run("node", ["scripts/build.mjs"]);
} catch (error) {
  // The failed command has printed its own account; a stack of this script adds nothing.
  console.error(`setup failed: ${error.message}`);
  process.exit(1);
}
