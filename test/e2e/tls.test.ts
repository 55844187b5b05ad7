import { execFile, execFileSync, spawnSync } from "node:child_process";
import { renameSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { connect, type PeerCertificate, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, PROGRAM, startDaemon, temporaryFolder } from "./daemon.ts";

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

function certify(folder: string, name: string): void {
  const files = ["-keyout", join(folder, "key.new"), "-out", join(folder, "cert.new")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", ...kind, ...files, "-subj", `/CN=${name}`], { stdio: "ignore" });
  for (const file of ["key", "cert"]) renameSync(join(folder, `${file}.new`), join(folder, `${file}.pem`));
}

function answer(url: string): Promise<{ readonly status: number | undefined; readonly name: unknown }> {
  return new Promise((resolve, reject) => {
    get(url, { rejectUnauthorized: false, agent: false }, (res) => {
      const { subject } = (res.socket as TLSSocket).getPeerCertificate() as PeerCertificate;
      res.resume();
      resolve({ status: res.statusCode, name: subject.CN });
    }).on("error", reject);
  });
}

test.skipIf(!isBuilt || !hasOpenssl)(
  "with server.tls the API is spoken over TLS, a reload takes up a new certificate, and a wrong one keeps the old",
  async () => {
    const folder = temporaryFolder();
    certify(folder, "first");
    const tls = `server:\n  tls: {cert: ${folder}/cert.pem, key: ${folder}/key.pem}\n`;
    const daemon = await startDaemon({ folder, config: tls });
    onTestFinished(async () => {
      await daemon.end("SIGKILL");
      daemon.removeFolder();
    });
    expect(daemon.url).toMatch(/^https:/);
    expect(await answer(`${daemon.url}/gpu/status`)).toEqual({ status: 200, name: "first" });
    await expect(fetch(daemon.url.replace("https:", "http:"))).rejects.toThrow();
    const port = Number(new URL(daemon.url).port);
    const old = connect({ port, host: "127.0.0.1", maxVersion: "TLSv1.1", rejectUnauthorized: false });
    await new Promise<void>((resolve) => old.once("error", () => resolve()));

    const health = [PROGRAM, "health", "--config", join(folder, "config.yaml")];
    const { stderr } = await promisify(execFile)(process.execPath, health, {
      env: { ...process.env, PORT: String(port) },
    });
    expect(stderr).toBe("");

    certify(folder, "second");
    daemon.process.kill("SIGHUP");
    await eventually(
      () => answer(`${daemon.url}/livez`),
      ({ name }) => name === "second",
    );
    certify(folder, "third");
    execFileSync("cp", [PROGRAM, join(folder, "key.pem")]);
    daemon.process.kill("SIGHUP");
    await eventually(
      async () => daemon.log,
      (log) => log.some((line) => line.includes("server.tls") && line.includes("the old ones stay")),
    );
    expect(await answer(`${daemon.url}/livez`)).toEqual({ status: 200, name: "second" });
  },
);
