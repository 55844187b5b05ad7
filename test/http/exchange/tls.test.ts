/** TLS under the server: certificates and reloads are in test/e2e/tls.test.ts. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { startDaemon } from "../daemon.ts";
import { open, type Peer } from "../peer.ts";

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "tls-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const [key, cert] = [join(folder, "key"), join(folder, "cert")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", ...kind, "-keyout", key, "-out", cert, "-subj", "/CN=gpu"], { stdio: "ignore" });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

function statusOf(port: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(`https://127.0.0.1:${port}/livez`, { rejectUnauthorized: false, agent: false }, (answer) => {
      answer.resume().on("end", () => resolve(answer.statusCode));
    }).on("error", reject);
  });
}

test.skipIf(!hasOpenssl)(
  "connections that do not speak TLS yet count as others do, and make room for one that does (needs openssl)",
  async () => {
    const daemon = await startDaemon({ settings: { certificate: certificate(), maxConnections: 4 } });
    const silent: Peer[] = [];
    for (let n = 0; n < 10; n++) silent.push(await open(daemon.port));
    await vi.waitFor(() => expect(silent.filter(({ socket }) => !socket.readableEnded)).toHaveLength(4));
    // Each takes the place of one of them, and gives it back when it is closed.
    for (let n = 0; n < 10; n++) expect(await statusOf(daemon.port)).toBe(200);
    expect(silent.filter(({ socket }) => !socket.readableEnded).length).toBeGreaterThanOrEqual(3);
  },
);
