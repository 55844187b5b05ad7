import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { defaultUrl } from "../../src/client/default-url.ts";
import { temporaryFolder } from "../e2e/daemon.ts";

test("where nobody says where the daemon is, the socket of the host is tried first, where there is one", async () => {
  const folder = temporaryFolder();
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "gpuo.sock");
  expect(defaultUrl(path)).toBe("http://127.0.0.1:8086");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  expect(defaultUrl(path)).toBe(`unix:${path}`);
  server.close();
});
