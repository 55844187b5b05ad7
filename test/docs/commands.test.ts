/**
 * Every command of the README and of docs/, run from the page's own text, in the page's order, against a daemon of the
 * page's own. A comment before a block says what else is to be done with it:
 *
 *   <!-- not run: WHY -->            it cannot be run here, or would do too much
 *   <!-- runs until stopped -->      it must still run after a moment; it is ended with the page
 *   <!-- starts the daemon -->       the same, and the blocks after it call that one
 *
 * A block without one must end by itself and well; an answer of curl that is a refusal is not well.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "../e2e/daemon.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TIMEOUT_MS = 60_000;
const STILL_RUNS_MS = 1_500;
const TOOLS = ["bash", "curl", "jq"];

const PAGES = [
  "README.md",
  ...readdirSync(join(ROOT, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

interface Block {
  readonly line: number;
  readonly how: "ends" | "not run" | "runs until stopped" | "starts the daemon";
  readonly why: string;
  readonly commands: string;
}

/** Of a console, only what is typed: lines that begin with `$`, and those that they go on in. */
function typed(console: string): string {
  const lines: string[] = [];
  let goesOn = false;
  for (const line of console.split("\n")) {
    if (line.startsWith("$ ")) lines.push(line.slice(2));
    else if (goesOn) lines.push(line);
    goesOn = (goesOn || line.startsWith("$ ")) && line.endsWith("\\");
  }
  return lines.join("\n");
}

function blocksOf(page: string): readonly Block[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  const fences = /(?:^<!-- ([^\n]*) -->\n+)?^```(sh|bash|console)\n([\s\S]*?)^```/gm;
  return [...text.matchAll(fences)].map((found) => {
    const [, mark = "", language, body = ""] = found;
    const [, how = "ends", why = ""] = /^(not run|runs until stopped|starts the daemon)(?:: (.+))?$/.exec(mark) ?? [];
    const line = text.slice(0, found.index).split("\n").length;
    return { line, how: how as Block["how"], why, commands: language === "console" ? typed(body) : body };
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A folder in which a clone's commands can be run, with what they leave behind in it. */
function cloneIn(folder: string): string {
  for (const name of ["gpuo", "dist", "deploy", "sdk", "templates", "package.json", "config.yaml.example"]) {
    symlinkSync(join(ROOT, name), join(folder, name));
  }
  const bin = join(folder, "bin");
  mkdirSync(bin);
  symlinkSync(join(ROOT, "gpuo"), join(bin, "gpuo"));
  symlinkSync(join(ROOT, "gpuo"), join(bin, "gpu-orchestrator"));
  const curl = spawnSync("sh", ["-c", "command -v curl"], { encoding: "utf8" }).stdout.trim();
  writeFileSync(
    join(bin, "curl"),
    `#!/bin/sh\ncase $1 in -sf) exec ${curl} "$@" ;; esac\nexec ${curl} --fail-with-body "$@"\n`,
  );
  chmodSync(join(bin, "curl"), 0o755);
  return bin;
}

class Page {
  readonly #daemon: TestDaemon;
  readonly #bin: string;
  readonly #receiver: number;
  #port: number;
  readonly #running: ChildProcess[] = [];

  private constructor(daemon: TestDaemon, receiver: number) {
    this.#daemon = daemon;
    this.#bin = cloneIn(daemon.folder);
    this.#receiver = receiver;
    this.#port = Number(new URL(daemon.url).port);
  }

  static async open(): Promise<Page> {
    return new Page(await startDaemon(), await freePort());
  }

  async close(): Promise<void> {
    for (const child of this.#running) process.kill(-(child.pid as number), "SIGKILL");
    await this.#daemon.end();
    this.#daemon.removeFolder();
  }

  async run({ how, commands }: Block): Promise<void> {
    if (how === "starts the daemon") {
      // It is the clone's own, with the database in the same place.
      await this.#daemon.end();
      this.#port = await freePort();
    }
    const child = this.#start(commands);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data: Buffer) => {
        output += data.toString();
      });
    }
    const ended = new Promise<number | string>((resolve) => {
      child.once("exit", (code, signal) => resolve(code ?? signal ?? "unknown"));
    });
    if (how === "ends") {
      const timer = setTimeout(() => process.kill(-(child.pid as number), "SIGKILL"), TIMEOUT_MS / 2);
      const end = await ended;
      clearTimeout(timer);
      expect({ end, output }).toEqual({ end: 0, output: expect.anything() });
      return;
    }
    this.#running.push(child);
    const answers = () =>
      fetch(`http://127.0.0.1:${this.#port}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      );
    if (how === "starts the daemon") await eventually(answers, (isReady) => isReady, TIMEOUT_MS / 2);
    const still = new Promise((resolve) => setTimeout(resolve, STILL_RUNS_MS, "runs"));
    expect([await Promise.race([ended, still]), output]).toEqual(["runs", expect.anything()]);
  }

  #start(commands: string): ChildProcess {
    const here = commands
      .replaceAll("127.0.0.1:8086", `127.0.0.1:${this.#port}`)
      .replaceAll("127.0.0.1:9000", `127.0.0.1:${this.#receiver}`)
      .replaceAll("listen(9000", `listen(${this.#receiver}`);
    return spawn("bash", ["-e", "-o", "pipefail", "-c", here], {
      cwd: this.#daemon.folder,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        HOME: this.#daemon.folder,
        PATH: [this.#bin, dirname(process.execPath), process.env.PATH].join(":"),
        GPU_ORCHESTRATOR_URL: `http://127.0.0.1:${this.#port}`,
        PORT: String(this.#port),
      },
    });
  }
}

const lacking = TOOLS.filter((tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0);
const pages = PAGES.map((page) => [page, blocksOf(page)] as const).filter(([, blocks]) => blocks.length > 0);
const runnable = pages.filter(([, blocks]) => blocks.some(({ how }) => how !== "not run"));

describe.skipIf(!isBuilt || lacking.length > 0)(
  `the commands of the pages (need the built program${lacking.length > 0 ? `, and ${lacking.join(", ")}` : ""})`,
  () => {
    describe.each(runnable)("%s", (_page, blocks) => {
      let page: Page;
      beforeAll(async () => {
        page = await Page.open();
      });
      afterAll(() => page?.close());

      test.each(blocks.filter(({ how }) => how !== "not run").map((block) => [block.line, block] as const))(
        "line %i",
        { timeout: TIMEOUT_MS },
        (_line, block) => page.run(block),
      );
    });
  },
);

test("a block that is not run says why", () => {
  const silent = pages.flatMap(([page, blocks]) =>
    blocks.filter(({ how, why }) => how === "not run" && why.length < 8).map(({ line }) => `${page}:${line}`),
  );
  expect(silent).toEqual([]);
  expect(pages.flatMap(([, blocks]) => blocks).filter(({ how }) => how === "ends").length).toBeGreaterThan(30);
});
