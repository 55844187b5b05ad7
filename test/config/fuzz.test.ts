import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { type Flags, loadConfig } from "../../src/config/load.ts";
import { ConfigError, formatProblems } from "../../src/config/problems.ts";
import { settingPaths } from "../../src/config/schema.ts";
import fc from "../fc.ts";
import { FUZZ_TIMEOUT_MS, fuzzed } from "../fuzz.ts";
import { scratchFolder } from "./load-text.ts";

const EXAMPLE = readFileSync(new URL("../../config.yaml.example", import.meta.url), "utf8");
const PATHS = settingPaths().map((path) => path.map(String));

/** Values that some setting takes, that none takes, and the ones that languages trip over. */
const anyValue = fc.oneof(
  fc.constantFrom(
    "5s",
    "1h",
    "0.0.0.0",
    "::1",
    "",
    "none",
    "__proto__",
    "http://x",
    "h100x8",
    0,
    -1,
    1,
    8086,
    1e300,
    true,
    null,
  ),
  fc.jsonValue({ maxDepth: 3 }),
);
const anyFlags: fc.Arbitrary<Flags> = fc.record(
  { port: fc.string(), host: fc.string(), simulate: fc.string() },
  { requiredKeys: [] },
);
const anyEnv = fc.record(
  {
    PORT: fc.string(),
    GPU_ORCHESTRATOR_HOST: fc.string(),
    DEEPAGENTS_URL: fc.string(),
    GRAPH_SERVICE_URL: fc.string(),
  },
  { requiredKeys: [] },
);

const yamlPieces = fc.constantFrom(
  ..."server: |auth:|api_keys|port|host|  |\n|\n  |- |? |: |[|]|{|}|, |&a |*a|!!str |!x |<<|\"|'|#|>|---\n|...\n|%YAML 1.1\n|\t|@|`|0x|.nan|~|\u0000|\uFEFF|\\".split(
    "|",
  ),
  "|",
);
const anyText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 200 }),
  fc.array(yamlPieces, { maxLength: 60 }).map((pieces) => pieces.join("")),
  // The example with a piece cut out of it, and another put in.
  fc
    .tuple(fc.nat(EXAMPLE.length), fc.nat(40), yamlPieces)
    .map(([at, length, piece]) => EXAMPLE.slice(0, at) + piece + EXAMPLE.slice(at + length)),
  fc
    .array(fc.tuple(fc.constantFrom(...PATHS), fc.nat(4), anyValue), { maxLength: 8 })
    .map((settings) => stringify(nested(settings))),
);

/** `[["server", "port"], 2, 5]` is `{server: {port: 5}}`; a smaller number cuts the path. */
function nested(settings: readonly (readonly [readonly string[], number, unknown])[]): unknown {
  const root: Record<string, unknown> = {};
  for (const [path, length, value] of settings) {
    const keys = path.slice(0, Math.max(1, length));
    let parent = root;
    for (const key of keys.slice(0, -1)) {
      const child = typeof parent[key] === "object" && parent[key] !== null ? parent[key] : {};
      parent[key] = child;
      parent = child as Record<string, unknown>;
    }
    parent[keys.at(-1) ?? ""] = value;
  }
  return root;
}

test("whatever stands in the file, the environment and the flags, only a ConfigError is thrown, and it says something", {
  timeout: FUZZ_TIMEOUT_MS,
}, () => {
  const path = join(scratchFolder(), "config.yaml");
  let loaded = 0;
  let refused = 0;
  fc.assert(
    fc.property(anyText, anyEnv, anyFlags, fc.boolean(), (text, env, flags, alone) => {
      writeFileSync(path, text);
      try {
        const { config } = loadConfig({ path, explicit: true, env: alone ? {} : env, flags: alone ? {} : flags });
        expect(Object.isFrozen(config)).toBe(true);
        loaded += 1;
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        expect(error.problems.length).toBeGreaterThan(0);
        // One line each, and no raw control characters for the terminal.
        const lines = formatProblems(error).split("\n");
        expect(lines).toHaveLength(Math.min(error.problems.length, 100) + (error.problems.length > 100 ? 1 : 0));
        expect(lines.every((line) => !/[\p{Cc}\p{Cf}\u2028\u2029]/u.test(line))).toBe(true);
        refused += 1;
      }
    }),
    fuzzed(500),
  );
  // Both ways were gone often enough to mean something.
  expect(Math.min(loaded, refused)).toBeGreaterThan(5);
});
