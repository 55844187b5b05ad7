/** The Python SDK's own tests (sdk/python/tests), against the built program and the official signer of webhooks. */
import { execFile, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { isBuilt, PROGRAM } from "../e2e/daemon.ts";

const FOLDER = fileURLToPath(new URL("../../sdk/python", import.meta.url));
const version = spawnSync("python3", [
  "-c",
  "import sys, json, unittest, asyncio, tarfile, multiprocessing; print(sys.version_info >= (3, 9))",
]);
const hasPython = version.status === 0 && version.stdout.toString().trim() === "True";

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
    const env = {
      PATH: process.env.PATH ?? "",
      GPUO_TEST_PROGRAM: `${process.execPath} ${PROGRAM}`,
      GPUO_TEST_WEBHOOK: JSON.stringify({ body, headers, secret }),
      PYTHONDONTWRITEBYTECODE: "1",
    };
    const args = ["-W", "error::ResourceWarning", "-m", "unittest", "-v"];
    const { code, output } = await new Promise<{ code: number | string; output: string }>((resolve) => {
      execFile("python3", args, { cwd: FOLDER, env }, (error, stdout, stderr) => {
        resolve({ code: error?.code ?? 0, output: stdout + stderr });
      });
    });
    expect(code, output).toBe(0);
    expect(output).not.toContain("skipped");
  },
  240_000,
);

test.skipIf(!hasPython)("the Python SDK is written in the Python of 3.9 (needs python3 3.9 or newer)", () => {
  const check =
    "import ast, pathlib, sys\nfor file in pathlib.Path('gpuo').glob('*.py'): ast.parse(file.read_text(), str(file), feature_version=(3, 9))";
  const { status, stderr } = spawnSync("python3", ["-c", check], { cwd: FOLDER, encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
});
