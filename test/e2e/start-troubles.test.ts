/** What an operator is told at a start that fails, or by check-config before it. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon, temporaryFolder } from "./daemon.ts";
import { runProgram } from "./program.ts";

function folder(): string {
  const path = temporaryFolder();
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A start that must fail: what it says, and how long that took. */
async function failedStart(settings: string, env: Record<string, string> = {}) {
  const cwd = folder();
  writeFileSync(join(cwd, "config.yaml"), settings);
  const { end, stderr } = await runProgram(["serve", "--simulate", "h100x1"], { cwd, env: { PORT: "0", ...env } });
  expect(end).not.toBe(0);
  return stderr;
}

async function checked(settings: string) {
  const cwd = folder();
  writeFileSync(join(cwd, "config.yaml"), settings);
  return runProgram(["check-config", "config.yaml"], { cwd });
}

describe.skipIf(!isBuilt)("a start that fails says what to do (npm test builds the program)", () => {
  test("a port that is taken is named with who has it", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as { port: number };
    const said = await failedStart("storage: {path: ':memory:'}\n", { PORT: String(port) });
    expect(said).toContain(`port ${port} is taken by pid ${process.pid} (`);
    expect(said).toContain("set server.port");
  });

  test("a unix socket's path that is something else is named", async () => {
    const path = join(folder(), "gpuo.sock");
    writeFileSync(path, "");
    const said = await failedStart(`server: {socket: ${JSON.stringify(path)}}\nstorage: {path: ':memory:'}\n`);
    expect(said).toContain(`server.socket ${path}: another process listens there, or it is something else`);
  });

  test("a database in use is named with the process that has it", async () => {
    const daemon = await startDaemon();
    onTestFinished(async () => {
      await daemon.end();
      daemon.removeFolder();
    });
    const path = join(daemon.folder, "data", "simulated.db");
    const said = await failedStart(`storage: {path: ${JSON.stringify(path)}}\n`);
    expect(said).toMatch(/is in use by another gpu-orchestrator, pid \d+ \(gpu-orchestrator\): stop that one first/);
  });

  test("the daemon's process is called gpu-orchestrator", async () => {
    const daemon = await startDaemon();
    onTestFinished(async () => {
      await daemon.end();
      daemon.removeFolder();
    });
    await eventually(
      async () => readFileSync(`/proc/${daemon.process.pid}/comm`, "utf8"),
      (name) => name === "gpu-orchestrato\n",
    );
  });

  test("what can never be a database is said at once, and by check-config too: a folder, a pipe, a device, a file as folder", async () => {
    const place = folder();
    mkdirSync(join(place, "folder"));
    writeFileSync(join(place, "file"), "");
    const hasPipes = spawnSync("mkfifo", [join(place, "pipe")]).status === 0;
    const cases = [
      [join(place, "folder"), "is a folder, and no file that could be a database"],
      [join(place, "file", "x.db"), "is a file, and no folder"],
      ["/dev/null", "is a device"],
      ...(hasPipes ? [[join(place, "pipe"), "is a named pipe"]] : []),
    ] as const;
    for (const [path, words] of cases) {
      const settings = `storage: {path: ${JSON.stringify(path)}}\nmonitoring: {source: simulated}\n`;
      const said = await failedStart(settings);
      expect(said).toContain(words);
      expect(said).toContain("set storage.path to a file in a folder");
      const { end, stderr } = await checked(settings);
      expect([end, stderr]).toEqual([0, expect.stringContaining("storage.path: ")]);
      expect(stderr).toContain(words);
    }
  });

  test("check-config says that nvidia-smi is missing or not executable, where it looked, and the remedy", async () => {
    const place = folder();
    const program = join(place, "nvidia-smi");
    const settings = (path: string) =>
      `storage: {path: ':memory:'}\nmonitoring: {nvidia_smi_path: ${JSON.stringify(path)}}\n`;
    const missing = await checked(settings(program));
    expect(missing.stderr).toContain(`there is no ${program} (ENOENT): install the NVIDIA driver`);
    writeFileSync(program, "", { mode: 0o644 });
    const closed = await checked(settings(program));
    expect(closed.stderr).toContain(`${program} is not executable for`);
    writeFileSync(join(place, "works"), "#!/bin/sh\n", { mode: 0o755 });
    expect((await checked(settings(join(place, "works")))).stderr).toBe("");
  });

  test("a key that stands in the documentation is refused", async () => {
    const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
    const [, settings = ""] = /```yaml\n(auth:\n[\s\S]*?)```/.exec(readme) ?? [];
    const { end, stderr } = await checked(settings);
    expect(end).toBe(78);
    expect(stderr.match(/a placeholder of the documentation/g)).toHaveLength(2);
    expect(stderr).not.toMatch(/LONG-RANDOM|64-HEX/);
  });
});

/** Only root can start a process that is somebody else's. */
test.skipIf(!isBuilt || process.getuid?.() !== 0)(
  "a database that may not be written is named with whom it belongs to (needs root, to run as somebody else)",
  async () => {
    const cwd = temporaryFolder();
    onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
    const module = new URL("../../src/store/usable.ts", import.meta.url).href;
    const source = `process.setgroups([]); const usable = await import(${JSON.stringify(module)}); process.setuid(65534);
      console.log(usable.whyUnusable(${JSON.stringify(join(cwd, "x.db"))}));`;
    const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", source], { encoding: "utf8" });
    expect(stdout).toMatch(
      /belongs to root \(mode 0700\), and nobody may not write to it: chown it to nobody, or set storage.path/,
    );
  },
);
