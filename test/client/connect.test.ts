/** Where the TypeScript SDK finds the daemon and the key when its caller names neither. */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { connect } from "../../src/client/index.ts";
import { temporaryFolder } from "../e2e/daemon.ts";
import { answer, scripted } from "./server.ts";

test("the environment says where the daemon is and which key to use, a file's before another, read each time", async () => {
  const server = await scripted((response) => answer(response, 200, {}));
  const folder = temporaryFolder();
  onTestFinished(async () => {
    vi.unstubAllEnvs();
    await server.close();
    rmSync(folder, { recursive: true });
  });
  const file = join(folder, "key");
  vi.stubEnv("GPU_ORCHESTRATOR_URL", server.url);
  vi.stubEnv("GPU_ORCHESTRATOR_API_KEY", "plain-key");
  vi.stubEnv("GPU_ORCHESTRATOR_API_KEY_FILE", "");
  await connect().status();
  await connect({ key: "given-key" }).status();
  vi.stubEnv("GPU_ORCHESTRATOR_API_KEY_FILE", file);
  writeFileSync(file, "first-key\n");
  const client = connect();
  await client.status();
  writeFileSync(file, "second-key\n");
  await client.status();
  await connect({ key: "given-key" }).status();
  const keys = server.asked.map(({ headers }) => headers.authorization?.replace("Bearer ", ""));
  expect(keys).toEqual(["plain-key", "given-key", "first-key", "second-key", "given-key"]);
});
