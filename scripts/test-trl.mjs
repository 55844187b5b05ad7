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

/** uv unpacks several at a time, and pip one after the other: of seven gigabytes that is most of the wait. */
function install(python) {
  const pip = [python, ["-m", "pip", "install", "--quiet", "--no-cache-dir"]];
  const cache = { UV_CACHE_DIR: join(folder, "uv"), UV_HTTP_TIMEOUT: "600" };
  const hasUv = run(pip[0], [...pip[1], "uv"]);
  const [program, args] = hasUv ? [python, ["-m", "uv", "pip", "install", "--python", python]] : pip;
  return run(program, [...args, ...PACKAGES], cache);
}

let python = process.env.TRL_PYTHON;
if (python === undefined) {
  python = join(folder, "bin", "python");
  if (!run("python3", ["-m", "venv", folder]) || !install(python)) {
    console.error(
      `skipped: ${PACKAGES.join(", ")} cannot be installed here; name a Python that has them by TRL_PYTHON`,
    );
    process.exit(0);
  }
}
// The first time it is compiled, for minutes; and without it the tests would only say that it is not there.
if (!run(python, ["-c", "from trl.experimental.ppo import PPOTrainer"])) process.exit(1);
process.exitCode = run("vitest", ["run", "test/worker/python.test.ts"], { PPO_PYTHON: python }) ? 0 : 1;
