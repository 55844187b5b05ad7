import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { clientOf } from "../../src/cli/connect.ts";
import { Terminal } from "../../src/cli/terminal.ts";
import { keys, lineFor, madeByDaemon } from "../../src/cli/verbs/keys.ts";
import { Unreachable } from "../../src/client/errors.ts";
import { answer, refuse, type Script, scripted } from "../client/server.ts";
import { load } from "../config/load-text.ts";

const made = (principal: string, options: { role: string; expires?: string }) => {
  const text = lineFor(principal, options);
  return { key: /^key: (\S+)$/m.exec(text)?.[1] ?? "", line: text.split("\n").at(-1) ?? "" };
};

test("a key is made once, has a prefix, 30 random characters and a checksum, and its line does not tell it", () => {
  const { key, line } = made("alice", { role: "read" });
  expect(key).toMatch(/^gpuo_[0-9A-Za-z]{36}$/);
  expect(line).not.toContain(key.slice("gpuo_".length));
  expect(made("alice", { role: "read" }).key).not.toBe(key);
});

test("the line is one that the settings take, with principal, role and expiry", () => {
  const { line } = made("team: a", { role: "run", expires: "2027-06-30" });
  const { config, warnings } = load(`auth:\n  enabled: true\n  api_keys:\n${line}\n`);
  expect(warnings).toEqual([]);
  expect(config.auth.keys).toMatchObject([
    { principal: "team: a", role: "run", expiresAt: Date.parse("2027-06-30T00:00:00Z") },
  ]);
});

test("an expiry that is no instant is refused by the settings, and a role that there is not by the verb", async () => {
  expect(() => load("auth: {api_keys: {a-key-of-some-length: {principal: bob, expires: tomorrow}}}")).toThrow(
    /a day such as/,
  );
  await expect(keys("create", "bob", { role: "root" })).rejects.toThrow(/expected read/);
  await expect(keys("rotate", "bob", { role: "read" })).rejects.toThrow(/expected create, list or revoke/);
});

describe("who makes a key", () => {
  const ALLOCATE = { role: "allocate", quiet: true };
  let folder: string;
  let settings: string;

  // Nothing of whoever runs the tests.
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "keys-test-"));
    settings = join(folder, "config.yaml");
    writeFileSync(settings, "auth: {store: file}\n");
    vi.stubEnv("XDG_CONFIG_HOME", folder);
    vi.stubEnv("CONFIG_PATH", settings);
    for (const name of ["URL", "API_KEY", "API_KEY_FILE"]) vi.stubEnv(`GPU_ORCHESTRATOR_${name}`, undefined);
    onTestFinished(() => {
      vi.unstubAllEnvs();
      rmSync(folder, { recursive: true });
    });
  });

  async function daemon(script: Script) {
    const server = await scripted(script);
    onTestFinished(server.close);
    return server;
  }
  const makes: Script = (response) => answer(response, 201, { id: "3f9a0c21b7de", key: "gpuo_new" });
  const hasThemInFile: Script = (response) => refuse(response, 409, "keys-in-file");

  test.each(["the environment", "cli.yaml"])("a daemon that %s names makes it", async (where) => {
    const { url, asked } = await daemon(makes);
    if (where === "cli.yaml") {
      mkdirSync(join(folder, "gpu-orchestrator"));
      writeFileSync(join(folder, "gpu-orchestrator/cli.yaml"), `url: ${url}\n`);
    } else vi.stubEnv("GPU_ORCHESTRATOR_URL", url);
    expect(await madeByDaemon("alice", ALLOCATE)).toMatchObject({ key: "gpuo_new" });
    expect(asked).toMatchObject([{ method: "POST", url: "/gpu/keys" }]);
    expect(JSON.parse(asked[0]?.body ?? "")).toEqual({ principal: "alice", role: "allocate" });
  });

  test("one whose keys stand in its settings gets a line for them, unless an option named it", async () => {
    const { url } = await daemon(hasThemInFile);
    await expect(madeByDaemon("alice", { ...ALLOCATE, url })).rejects.toMatchObject({ code: "keys-in-file" });
    vi.stubEnv("GPU_ORCHESTRATOR_URL", url);
    expect(await madeByDaemon("alice", ALLOCATE)).toBeNull();
  });

  test("a refusal is no reason for a line", async () => {
    const { url } = await daemon((response) => refuse(response, 403, "forbidden"));
    vi.stubEnv("GPU_ORCHESTRATOR_URL", url);
    await expect(madeByDaemon("alice", ALLOCATE)).rejects.toMatchObject({ code: "forbidden" });
  });

  test("with --config that file tells, and no daemon is asked", async () => {
    const { url, asked } = await daemon(makes);
    vi.stubEnv("GPU_ORCHESTRATOR_URL", url);
    expect(await madeByDaemon("alice", { ...ALLOCATE, config: settings })).toBeNull();
    expect(asked).toEqual([]);
  });

  test("where only a key is set, the daemon at the usual place is tried; a line is made when none is there", async () => {
    const server = await daemon(makes);
    const { url } = server;
    const at = (key: string | null, isNamed: boolean) => async () => {
      const connection = { url, isNamed, key, keyFrom: null };
      return { ...connection, client: clientOf(connection), terminal: new Terminal({ quiet: true }) };
    };
    expect(await madeByDaemon("alice", ALLOCATE, at("a-key", false))).toMatchObject({ key: "gpuo_new" });
    expect(await madeByDaemon("alice", ALLOCATE, at(null, false))).toBeNull();
    expect(server.asked).toHaveLength(1);
    await server.close();
    expect(await madeByDaemon("alice", ALLOCATE, at("a-key", false))).toBeNull();
    await expect(madeByDaemon("alice", ALLOCATE, at("a-key", true))).rejects.toThrow(Unreachable);
  });
});
