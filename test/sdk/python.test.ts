/** The Python SDK's own tests (sdk/python/tests), against the built program and the official signer of webhooks. */
import { execFile, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { isBuilt, PROGRAM } from "../e2e/daemon.ts";

const FOLDER = fileURLToPath(new URL("../../sdk/python", import.meta.url));
/** Such as that of a virtual environment with ipykernel in it. */
const PYTHON = process.env.GPUO_TEST_PYTHON ?? "python3";
const version = spawnSync(PYTHON, [
  "-c",
  "import sys, json, unittest, asyncio, tarfile, multiprocessing; print(sys.version_info >= (3, 9))",
]);
const hasKernel = spawnSync(PYTHON, ["-c", "import ipykernel, jupyter_client"]).status === 0;
const hasPython = version.status === 0 && version.stdout.toString().trim() === "True";

/** Of the SDK's own tests. */
function unittest(env: Record<string, string>, ...modules: readonly string[]) {
  const all = {
    PATH: process.env.PATH ?? "",
    HOME: process.env.HOME ?? "",
    GPUO_TEST_PROGRAM: `${process.execPath} ${PROGRAM}`,
    GPUO_TEST_ROUNDS: process.env.GPUO_TEST_ROUNDS ?? "200",
    PYTHONDONTWRITEBYTECODE: "1",
    ...env,
  };
  const args = ["-W", "error::ResourceWarning", "-m", "unittest", "-v", ...modules];
  return new Promise<{ readonly code: number | string; readonly output: string }>((resolve) => {
    execFile(PYTHON, args, { cwd: FOLDER, env: all }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, output: stdout + stderr });
    });
  });
}

test.skipIf(!isBuilt || !hasPython)(
  "the Python SDK passes its tests (needs the built program and python3 3.9 or newer)",
  async () => {
    const secret = `whsec_${Buffer.from("a key of the official signer").toString("base64")}`;
    const body = JSON.stringify({ status: "allocated", request_id: "svc-1" });
    const now = new Date();
    const headers = {
      "webhook-id": "msg_1",
      "webhook-timestamp": String(Math.floor(now.getTime() / 1_000)),
      "webhook-signature": new Webhook(secret).sign("msg_1", now, body),
    };
    const env = { GPUO_TEST_WEBHOOK: JSON.stringify({ body, headers, secret }) };
    const { code, output } = await unittest(env, "tests.test_lease", "tests.test_webhooks");
    expect(code, output).toBe(0);
    expect(output).not.toContain("skipped");
  },
  240_000,
);

test.skipIf(!isBuilt || !hasKernel)(
  "the Python SDK works in a Jupyter kernel (needs the built program, and ipykernel and jupyter_client for $GPUO_TEST_PYTHON)",
  async () => {
    const { code, output } = await unittest({}, "tests.test_notebook");
    expect(code, output).toBe(0);
    expect(output).not.toContain("skipped");
  },
  240_000,
);

test.skipIf(!hasPython)("the Python SDK is written in the Python of 3.9 (needs python3 3.9 or newer)", () => {
  const check =
    "import ast, pathlib, sys\nfor file in pathlib.Path('gpuo').glob('*.py'): ast.parse(file.read_text(), str(file), feature_version=(3, 9))";
  const { status, stderr } = spawnSync(PYTHON, ["-c", check], { cwd: FOLDER, encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
});
