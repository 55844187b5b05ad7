/**
 * Schemathesis, a fuzzer of others, holds the built daemon against its own document. `npm run test:schemathesis` fetches it
 * from PyPI, unless SCHEMATHESIS names its program, and sends 10,000 cases; with SCHEMATHESIS set `npm test` sends some.
 */
import { execFileSync, spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { SEED } from "../seed.ts";
import { isBuilt, temporaryFolder } from "./daemon.ts";
import { startReady } from "./steps.ts";

const VERSION = "4.32.5";
const { SCHEMATHESIS = "", SCHEMATHESIS_CASES } = process.env;
const MIN_CASES = Number(SCHEMATHESIS_CASES ?? 100);
/** For each call and round; the whole comes in as many rounds as it takes. */
const EXAMPLES = SCHEMATHESIS_CASES === undefined ? 5 : 100;
const PHASES = SCHEMATHESIS_CASES === undefined ? "fuzzing" : "examples,coverage,fuzzing";
const LIMIT_MS = SCHEMATHESIS_CASES === undefined ? 300_000 : 3_600_000;

const KEY = "schemathesis-admin-key-01";
const CONFIG = `auth: {enabled: true, store: database, api_keys: {${KEY}: {principal: root, role: admin}}}\n`;

/**
 * 503 is an answer like others where the document has it. Rules that JSON Schema has no words for are refused with 422,
 * and records outlive what they are about: two checks, and a third of the same kind, do not know that.
 */
const CHECKS = `
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429", "431", "503"]

[checks.positive_data_acceptance]
enabled = false

[checks.use_after_free]
enabled = false

[checks.ensure_resource_availability]
enabled = false
`;

/** Its program. */
function schemathesis(): string {
  if (SCHEMATHESIS !== "pypi") return SCHEMATHESIS;
  const folder = temporaryFolder();
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  execFileSync("python3", ["-m", "venv", folder]);
  execFileSync(join(folder, "bin", "pip"), ["install", "--quiet", `schemathesis==${VERSION}`]);
  return join(folder, "bin", "schemathesis");
}

async function ended(program: string, args: readonly string[], cwd: string) {
  const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { status, output };
}

test.skipIf(!isBuilt || SCHEMATHESIS === "")(
  "Schemathesis finds no answer that the document does not have (npm run test:schemathesis; needs the built program and PyPI)",
  async () => {
    const program = schemathesis();
    const daemon = await startReady({ config: CONFIG });
    writeFileSync(join(daemon.folder, "schemathesis.toml"), CHECKS);
    // Streams never end.
    const what = [`${daemon.url}/openapi.json`, "--exclude-path-regex", "^/gpu/(events|readings)$"];
    const how = ["--header", `X-API-Key: ${KEY}`, "--phases", PHASES, "--max-examples", String(EXAMPLES)];
    let cases = 0;
    for (let seed = SEED; cases < MIN_CASES; seed++) {
      const args = ["run", ...what, ...how, "--seed", String(seed), "--no-color", "--request-timeout", "60"];
      const { status, output } = await ended(program, args, daemon.folder);
      expect(status, output).toBe(0);
      const generated = Number(/(\d+) generated/.exec(output)?.[1]);
      expect(generated, output).toBeGreaterThan(0);
      cases += generated;
    }
    console.log(`schemathesis: ${cases} cases from seed ${SEED} on`);
    expect((await daemon.call("GET", "/livez")).status).toBe(200);
    expect(daemon.log.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  },
  LIMIT_MS,
);
