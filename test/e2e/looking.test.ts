/** What the verbs that look and the daemon load, and where compiled code is kept. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { afterAll, describe, expect, test } from "vitest";
import { lookingVerbs } from "../../src/cli/looking-verbs.ts";
import { isBuilt, PROGRAM, temporaryFolder } from "./daemon.ts";
import { runProgram } from "./program.ts";

const UNREACHABLE = ["--url", "http://127.0.0.1:9"];

describe.skipIf(!isBuilt)("the verbs that look (needs npm run build)", () => {
  const folder = temporaryFolder();

  afterAll(() => rmSync(folder, { recursive: true }));

  /** The files of the program that a call loads. */
  async function loadedBy(...args: readonly string[]): Promise<readonly string[]> {
    const coverage = mkdtempSync(join(folder, "coverage-"));
    await runProgram(args, { cwd: folder, env: { HOME: folder, NODE_V8_COVERAGE: coverage } });
    const scripts = readdirSync(coverage).flatMap(
      (file) => JSON.parse(readFileSync(join(coverage, file), "utf8")).result as readonly { readonly url: string }[],
    );
    const paths = scripts.flatMap(({ url }) => (url.startsWith("file:") ? fileURLToPath(url) : []));
    return paths.filter((path) => path.includes("/dist/")).map((path) => path.slice(path.lastIndexOf("/") + 1));
  }

  test("each of them loads one file beside the one that starts it, and no other verb does", async () => {
    const program = new Command();
    lookingVerbs(program);
    const names = program.commands.map((command) => command.name());
    expect(names).toContain("status");
    for (const name of names) {
      const files = await loadedBy(name, ...(name === "why" || name === "show" ? ["0"] : []), ...UNREACHABLE);
      expect(files, name).toContain("look.cjs");
      expect(files.length, `${name}: ${files.join(" ")}`).toBeLessThanOrEqual(4);
    }
    expect(await loadedBy("leases-of-nobody")).not.toContain("look.cjs");
  });

  test("a look loads no part of Node that it does not need", async () => {
    const told = join(folder, "loaded");
    const preload = join(folder, "tell.cjs");
    writeFileSync(
      preload,
      `process.on("exit", () => require("node:fs").writeFileSync(${JSON.stringify(told)}, process.moduleLoadList.join()));`,
    );
    const env = { HOME: folder, NODE_OPTIONS: `--require ${preload}` };
    await runProgram(["status", ...UNREACHABLE], { cwd: folder, env });
    const loaded = readFileSync(told, "utf8").split(",");
    expect(loaded).toContain("NativeModule _http_client");
    for (const name of ["child_process", "internal/fs/streams", "internal/fs/promises", "perf_hooks", "crypto"])
      expect(loaded, name).not.toContain(`NativeModule ${name}`);
  });

  test("the library of MCP is in a file of its own, which other verbs do not load", async () => {
    const ofMcp = readdirSync(dirname(PROGRAM)).filter((file) => /^mcp-.*\.js$/.test(file));
    expect(ofMcp).toHaveLength(1);
    expect(readFileSync(join(dirname(PROGRAM), ofMcp[0] as string), "utf8")).toContain("registerTool");
    const loaded = await loadedBy("quotas", ...UNREACHABLE);
    expect(loaded.length).toBeGreaterThan(3);
    for (const file of ofMcp) expect(loaded).not.toContain(file);
  });

  test("the daemon is in one file too", async () => {
    const files = await loadedBy("serve", "--help");
    expect(files).toContain("serve.cjs");
    expect(files.length, files.join(" ")).toBeLessThanOrEqual(4);
  });

  test("compiled code is kept in the caller's own folder, and nowhere where others may write", async () => {
    const own = join(folder, "own");
    const shared = join(folder, "shared");
    for (const home of [own, shared]) mkdirSync(home, { mode: 0o755 });
    chmodSync(shared, 0o777);
    for (const HOME of [own, shared]) await runProgram(["status", ...UNREACHABLE], { cwd: folder, env: { HOME } });
    expect(readdirSync(join(own, ".cache/gpu-orchestrator/code"))).not.toEqual([]);
    expect(existsSync(join(shared, ".cache"))).toBe(false);
  });
});
