// `npm run test:trl`: the training loop's tests on real torch, transformers and TRL, from PyPI. TRL_PYTHON names a Python that has
// them already. Seven gigabytes, ten minutes on a slow machine.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The last TRL with PPO, and what it was tried with. */
const PACKAGES = ["torch==2.8.0", "transformers>=4.56,<5", "trl==1.9.0", "accelerate", "datasets"];
const run = (command, args, env = {}) =>
  spawnSync(command, args, { stdio: "inherit", env: { ...process.env, ...env } }).status === 0;

const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-trl-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
let python = process.env.TRL_PYTHON;
if (python === undefined) {
  python = join(folder, "bin", "python");
  const isThere =
    run("python3", ["-m", "venv", folder]) &&
    run(python, ["-m", "pip", "install", "--quiet", "--no-cache-dir", ...PACKAGES]);
  if (!isThere) {
    console.error(
      `skipped: ${PACKAGES.join(", ")} cannot be installed here; name a Python that has them by TRL_PYTHON`,
    );
    process.exit(0);
  }
}
process.exitCode = run("vitest", ["run", "test/worker/python.test.ts"], { PPO_PYTHON: python }) ? 0 : 1;
