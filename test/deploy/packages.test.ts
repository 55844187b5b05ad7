/** What users install, made and installed as they would. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBuilt, temporaryFolder } from "../e2e/daemon.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = temporaryFolder();
const hasPython =
  spawnSync("python3", [
    "-c",
    "import sys, json, unittest, asyncio, tarfile, multiprocessing; assert sys.version_info >= (3, 9)",
  ]).status === 0;

describe.skipIf(!isBuilt || !hasPython)("the packages (need the built program and python3 3.9 or newer)", () => {
  const made = (beginning: RegExp) =>
    join(FOLDER, "out", readdirSync(join(FOLDER, "out")).find((name) => beginning.test(name)) ?? "");

  beforeAll(() => {
    const parts = ["npm", "python", "contents"];
    execFileSync(process.execPath, ["scripts/package.mjs", join(FOLDER, "out"), ...parts], { cwd: ROOT });
  });

  afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

  test("are not put where other files are, which would be deleted", () => {
    const folder = join(FOLDER, "mine");
    mkdirSync(folder);
    writeFileSync(join(folder, "notes"), "mine");
    expect(spawnSync(process.execPath, ["scripts/package.mjs", folder], { cwd: ROOT }).status).toBe(64);
    expect(readFileSync(join(folder, "notes"), "utf8")).toBe("mine");
  });

  test("are listed with their checksums", () => {
    const { status } = spawnSync("sha256sum", ["--check", "--quiet", "SHA256SUMS"], { cwd: join(FOLDER, "out") });
    expect(status).toBe(0);
    expect(readFileSync(join(FOLDER, "out/SHA256SUMS"), "utf8").trim().split("\n")).toHaveLength(5);
  });

  test("are told of with all that they are made of: the program, its Node, and what is bundled", () => {
    const { packages, relationships, spdxVersion } = JSON.parse(readFileSync(made(/\.spdx\.json$/), "utf8"));
    expect(spdxVersion).toBe("SPDX-2.3");
    const names = packages.map(({ name }: { name: string }) => name);
    expect(names).toEqual(
      expect.arrayContaining(["gpu-orchestrator", "node", "commander", "preact", "swagger-ui-dist"]),
    );
    expect(names).not.toContain("vitest");
    expect(packages.filter(({ licenseDeclared }: { licenseDeclared: string }) => !licenseDeclared)).toEqual([]);
    expect(relationships).toHaveLength(packages.length);
  });

  test("the program's needs nothing else from anywhere, and brings both commands", () => {
    const prefix = join(FOLDER, "prefix");
    mkdirSync(prefix);
    const options = ["--global", "--prefix", prefix, "--offline", "--no-audit", "--no-fund", "--ignore-scripts"];
    execFileSync("npm", ["install", ...options, made(/^gpuo-\d.*\.tgz$/)]);
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    for (const name of ["gpuo", "gpu-orchestrator"]) {
      const told = execFileSync(process.execPath, [join(prefix, "bin", name), "--version"], { cwd: FOLDER });
      expect(told.toString().trim()).toBe(version);
    }
    const plain = spawnSync(process.execPath, [join(prefix, "bin", "gpuo"), "check-config"], { cwd: FOLDER });
    expect(plain.status).toBe(0);
    // A host without a driver is told so, and of nothing else.
    expect(plain.stderr.toString()).toMatch(/^(warning: [^\n]*nvidia_smi_path[^\n]*\n)?$/);
  });

  test.skipIf(spawnSync("python3", ["-m", "pip", "--version"]).status !== 0)(
    "Python's installs without the network, and is imported (needs pip)",
    () => {
      const target = join(FOLDER, "site");
      const options = ["--quiet", "--no-index", "--disable-pip-version-check", "--target", target];
      execFileSync("python3", ["-m", "pip", "install", ...options, made(/\.whl$/)]);
      const env = { ...process.env, PYTHONPATH: target };
      const told = execFileSync("python3", ["-c", "import gpuo; print(gpuo.__version__, gpuo.gpus)"], {
        cwd: FOLDER,
        env,
      });
      expect(told.toString()).toContain("1.0.0");
    },
  );

  test("Python's are the same bytes from the same files", () => {
    const again = join(FOLDER, "again");
    mkdirSync(again);
    execFileSync("python3", ["sdk/python/build.py", again], { cwd: ROOT });
    for (const name of readdirSync(again)) {
      expect(readFileSync(join(again, name)).equals(readFileSync(join(FOLDER, "out", name)))).toBe(true);
    }
  });
});
