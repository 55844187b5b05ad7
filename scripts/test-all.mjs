// Everything that CI checks, in one go: types, lint and house rules, unused code, and all tests against the built
// program. Ends with the plain line "N passed, N failed".
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Everything that runs is killed for so long: see docs/work.md. */
const KILLING = { WORK_KILL_SECONDS: "180" };
const env = {
  ...KILLING,
  ...process.env,
  PATH: `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH}`,
};
const run = (command, args, options = {}) => spawnSync(command, args, { cwd: root, env, stdio: "inherit", ...options });
const has = (program) => env.PATH.split(delimiter).some((folder) => existsSync(join(folder, program)));

/** Debian packages whose programs some tests use for real. Without them those tests are skipped by name. */
const TOOLS = {
  promtool: "prometheus",
  "prometheus-alertmanager": "prometheus-alertmanager",
  "systemd-analyze": "systemd",
  kill: "procps",
  prlimit: "util-linux",
  faketime: "faketime",
  python3: "python3",
  strace: "strace",
  chromium: "chromium",
  "redis-server": "redis-server",
  pg_ctlcluster: "postgresql",
  openssl: "openssl",
  podman: "podman",
  runc: "runc",
  catatonit: "catatonit",
  busybox: "busybox-static",
  ip: "iproute2",
};
const missing = Object.keys(TOOLS).filter((program) => !has(program));
if (missing.length > 0 && process.getuid?.() === 0 && has("apt-get") && process.env.NO_APT === undefined) {
  const packages = missing.map((program) => TOOLS[program]);
  console.log(`installing for the tests: ${packages.join(" ")} (NO_APT=1 prevents it)`);
  const quiet = {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" },
  };
  run("apt-get", ["update", "-qq"], quiet);
  run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], quiet);
}

let passed = 0;
let failed = 0;
const check = (name, command, args) => {
  const { status } = run(command, args);
  if (status === 0) passed++;
  else {
    failed++;
    console.error(`FAILED: ${name}`);
  }
};
check("types of the core", "tsc", ["-p", "src/core"]);
check("types of the page", "tsc", ["-p", "src/web"]);
check("types", "tsc", ["-p", "."]);
check("lint, format and house rules", "biome", ["check", "--error-on-warnings", "."]);
check("unused code", "knip", []);

const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-tests-"));
const report = join(folder, "report.json");
const reporters = ["default", "json", "./test/second-tries.ts"].map((name) => `--reporter=${name}`);
// What fails is tried once more, and named at the end where that helped: other work on the machine is no fault of a change.
const { status } = run("vitest", ["run", "--retry=1", ...reporters, `--outputFile.json=${report}`]);
let skipped = 0;
try {
  const result = JSON.parse(readFileSync(report, "utf8"));
  passed += result.numPassedTests;
  failed += result.numFailedTests;
  skipped = result.numPendingTests + (result.numTodoTests ?? 0);
  if (status !== 0 && result.numFailedTests === 0) {
    failed++;
    console.error("FAILED: the test run itself (a file that did not load, or something left running)");
  }
  for (const file of result.testResults) {
    for (const test of file.assertionResults) {
      if (test.status === "pending" || test.status === "skipped") console.log(`skipped: ${test.fullName}`);
    }
  }
} catch (error) {
  failed++;
  console.error(`FAILED: no test report: ${error.message}`);
}
rmSync(folder, { recursive: true, force: true });
if (skipped > 0) console.log(`${skipped} skipped, named above with where they run`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
