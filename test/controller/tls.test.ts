/** The first seed's TLS keys, as a caller sees them. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { serveApi } from "./served-api.ts";

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

test.skipIf(!hasOpenssl)("the API speaks TLS with tlsEnabled, and nothing else (needs openssl)", async () => {
  const folder = mkdtempSync(join(tmpdir(), "controller-tls-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const [keyFile, certFile, config] = ["key", "cert", "config.yaml"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const whose = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync("openssl", ["req", ...kind, ...whose, "-keyout", keyFile, "-out", certFile], { stdio: "ignore" });
  writeFileSync(config, JSON.stringify({ tlsEnabled: true, certFile, keyFile }));
  const api = await serveApi({ config });
  onTestFinished(() => api.close());
  const path = `${new URL(api.url).host}/healthz`;
  const status = await new Promise<number | undefined>((resolve, reject) => {
    get(`https://${path}`, { ca: readFileSync(certFile), agent: false }, (answer) => {
      answer.resume().on("end", () => resolve(answer.statusCode));
    }).on("error", reject);
  });
  expect(status).toBe(200);
  await expect(fetch(`http://${path}`)).rejects.toThrow();
});
