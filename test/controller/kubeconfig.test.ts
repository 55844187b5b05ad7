/** Whom a kubeconfig says to call, and as whom. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { KubeConnection } from "../../src/controller/kubernetes/connection.ts";
import { accessOf } from "../../src/controller/kubernetes/kubeconfig.ts";

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "kubeconfig-"));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

function written(at: string, user: object, cluster: object = {}): string {
  const file = join(at, "config");
  const config = {
    clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1", ...cluster } }],
    users: [{ name: "u", user }],
    contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
    "current-context": "c",
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

/** A program that counts how often it was run, and notes its environment. */
function plugin(at: string, credential: string): object {
  const command = join(at, "plugin");
  writeFileSync(command, `#!/bin/sh\necho x >> ${at}/runs\nenv > ${at}/env\n${credential}\n`);
  chmodSync(command, 0o755);
  const apiVersion = "client.authentication.k8s.io/v1";
  return { exec: { apiVersion, command, args: ["get-token"], env: [{ name: "PROFILE", value: "p" }] } };
}
const says = (status: object) => `echo '${JSON.stringify({ kind: "ExecCredential", status })}'`;
const access = (file: string, env: NodeJS.ProcessEnv = process.env) => accessOf(file, null, false, env);

describe("a program that a kubeconfig names", () => {
  test("gives a token, which is kept until it expires, in a clean environment", async () => {
    const at = folder();
    const { authorization } = access(
      written(at, plugin(at, says({ token: "t1", expirationTimestamp: "2099-01-01T00:00:00Z" }))),
      { ...process.env, DB_PASSWORD: "secret" },
    );
    expect(await Promise.all([authorization(), authorization()])).toEqual(["Bearer t1", "Bearer t1"]);
    expect(await authorization()).toBe("Bearer t1");
    expect(readFileSync(`${at}/runs`, "utf8")).toBe("x\n");
    const environment = readFileSync(`${at}/env`, "utf8");
    expect(environment).toContain("PROFILE=p\n");
    expect(environment).toContain('"kind":"ExecCredential"');
    expect(environment).not.toContain("secret");
  });

  test("is run again when its token has run out", async () => {
    const at = folder();
    const { authorization } = access(
      written(at, plugin(at, says({ token: "t1", expirationTimestamp: "2020-01-01T00:00:00Z" }))),
    );
    await authorization();
    await authorization();
    expect(readFileSync(`${at}/runs`, "utf8")).toBe("x\nx\n");
  });

  test("is run once more when a server does not take its token, and the call is made again with another", async () => {
    const at = folder();
    const seen: string[] = [];
    const server = createServer(({ headers: { authorization = "" } }, res) => {
      seen.push(authorization);
      res.statusCode = authorization === "Bearer t2" ? 200 : 401;
      res.end("{}");
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    // Each time it is run it says another one: t1, t2, t3.
    const run = `echo '{"status":{"token":"t'$(wc -l < ${at}/runs | tr -d ' ')'"}}'`;
    const connection = new KubeConnection({ kubeconfig: written(at, plugin(at, run), { server: url }), context: null });
    onTestFinished(() => connection.close());
    expect(await connection.call("/api")).toEqual({});
    expect(await connection.call("/api")).toEqual({});
    expect(seen).toEqual(["Bearer t1", "Bearer t2", "Bearer t2"]);
  });

  test("that gives the same token again is not called with it twice", async () => {
    const at = folder();
    let calls = 0;
    const server = createServer((_, res) => {
      calls++;
      res.statusCode = 401;
      res.end("{}");
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const kubeconfig = written(at, plugin(at, says({ token: "t" })), { server: url });
    const connection = new KubeConnection({ kubeconfig, context: null });
    onTestFinished(() => connection.close());
    await expect(connection.call("/api")).rejects.toThrow("status 401");
    expect(calls).toBe(1);
  });

  test("that fails, or says something else, is told of in words, and what it said is not", async () => {
    for (const [credential, words] of [
      ["echo 'log in first' >&2; exit 3", /log in first/],
      ["echo hunter2", /gave no ExecCredential$/],
      [says({ clientCertificateData: "x" }), /only tokens are taken$/],
    ] as const) {
      const at = folder();
      await expect(access(written(at, plugin(at, credential))).authorization()).rejects.toThrow(words);
    }
  });
});

test("a cluster whose TLS is not verified is called only where that is allowed", () => {
  const file = written(folder(), { token: "t" }, { "insecure-skip-tls-verify": true });
  expect(() => accessOf(file, null, false, {})).toThrow(/--allow-insecure/);
  expect(accessOf(file, null, true, {}).verify).toBe(false);
});

test("without a cluster there is no call, and as soon as there is one there is", async () => {
  const at = folder();
  const kubeconfig = join(at, "config");
  const connection = new KubeConnection({ kubeconfig, context: null });
  onTestFinished(() => connection.close());
  await expect(connection.call("/api")).rejects.toThrow(/no such file/);
  written(at, { token: "t" });
  await expect(connection.call("/api")).rejects.toThrow(/^https:\/\/127\.0\.0\.1:1: /);
});
