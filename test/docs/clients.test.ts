/** The programs of docs/clients.md and the commands of the README, run as they stand there. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBuilt, startDaemon, type TestDaemon } from "../e2e/daemon.ts";
import { runProgram } from "../e2e/program.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The blocks of a page in one language. */
function blocks(page: string, language: string): string[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, "gm"))].map(
    ([, block]) => block as string,
  );
}

const has = (program: string, ...args: string[]) => spawnSync(program, args).status === 0;

describe.skipIf(!isBuilt)("the clients of docs/clients.md (need the built program)", () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await startDaemon();
    const bin = join(daemon.folder, "bin");
    mkdirSync(bin);
    symlinkSync(join(ROOT, "gpuo"), join(bin, "gpuo"));
  });

  afterAll(async () => {
    await daemon.end();
    daemon.removeFolder();
  });

  /** Runs a program to its end, and expects that it had a GPU, and has none any more. */
  async function leases(under: readonly string[], env: Record<string, string> = {}): Promise<void> {
    const path = [join(daemon.folder, "bin"), dirname(process.execPath), process.env.PATH].join(":");
    const whole = { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder, ...env, PATH: path };
    const { end, stdout, stderr } = await runProgram([], { cwd: daemon.folder, under, env: whole });
    expect({ end, stderr, stdout }).toMatchObject({ end: 0, stdout: expect.stringMatching(/^on GPU-[0-9a-f-]+\n$/) });
    expect((await daemon.call("GET", "/gpu/list")).body.allocations).toEqual([]);
  }

  test.each(blocks("docs/clients.md", "bash").map((block, at) => [at + 1, block] as const))(
    "Bash, number %i",
    async (_at, block) => {
      await leases(["bash", "-c", block]);
    },
  );

  test
    .skipIf(!has("python3", "-c", "import sys; assert sys.version_info >= (3, 9)"))
    .each(blocks("docs/clients.md", "python").map((block, at) => [at + 1, block] as const))(
    "Python, number %i (needs python3 3.9 or newer)",
    async (_at, block) => {
      await leases(["python3", "-c", block], { PYTHONPATH: join(ROOT, "sdk/python"), PYTHONDONTWRITEBYTECODE: "1" });
    },
  );

  // Building Go's HTTP client takes minutes on a fresh machine: its form is checked, and it is run by hand.
  test.skipIf(spawnSync("gofmt", { input: "package main\n" }).status !== 0)("Go is well formed (needs gofmt)", () => {
    const [block = ""] = blocks("docs/clients.md", "go");
    const { status, stdout } = spawnSync("gofmt", [], { input: block });
    expect([status, stdout.toString()]).toEqual([0, block]);
  });

  test("the README's commands for looking and running do what it says", async () => {
    const lines = blocks("README.md", "sh").join("").split("\n");
    const commands = lines
      .map((line) => line.replace(/\s+# .*/, ""))
      .filter((line) => line.startsWith("./gpuo ") && !line.includes(" -f"));
    expect(commands.length).toBeGreaterThan(6);
    // Those of work need the demo: its own test runs them.
    const others = /^\.\/gpuo (?:check-config|submit|ps|results|controller)\b/;
    for (const command of commands.filter((line) => !others.test(line))) {
      const { end, stderr } = await runProgram([], {
        cwd: ROOT,
        under: ["sh", "-c", command],
        env: { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder },
      });
      expect([command, end, stderr]).toEqual([command, 0, expect.anything()]);
    }
  });
});

test("no page and no message names a package that is somebody else's, or is not ours yet", () => {
  const pages = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    ...readdirSync(join(ROOT, "docs"))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `docs/${name}`),
  ];
  const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  const texts = [...pages, ...sources.map((name) => `src/${name}`), "sdk/python/README.md", "sdk/typescript/README.md"];
  for (const name of texts.filter((one) => existsSync(join(ROOT, one)))) {
    expect(readFileSync(join(ROOT, name), "utf8"), name).not.toMatch(
      /npx gpu-orchestrator|(?:npm (?:i|install)(?: -g| --global)?|npx|pip install) (?:gpu-orchestrator|gpuo)\b(?!-)/,
    );
  }
});

test("every page of docs/ is in its index, and every link of a page leads somewhere", () => {
  const index = readFileSync(join(ROOT, "docs/README.md"), "utf8");
  const names = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md") && name !== "README.md");
  expect(names.filter((name) => !index.includes(`(${name})`))).toEqual([]);
  for (const page of ["README.md", ...names.map((name) => `docs/${name}`), "docs/README.md"]) {
    const text = readFileSync(join(ROOT, page), "utf8");
    const links = [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, link]) => link as string);
    const broken = links.filter((link) => !/^[a-z]+:/.test(link) && !existsSync(join(ROOT, dirname(page), link)));
    expect([page, broken]).toEqual([page, []]);
  }
});
