import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { type ConfigSource, type LoadedConfig, loadConfig } from "../../src/config/load.ts";
import { ConfigError, formatProblem } from "../../src/config/problems.ts";

export type Overrides = Partial<Pick<ConfigSource, "env" | "flags" | "rules">>;

/** A folder that is gone after the test. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "config-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Loads a file of this content. */
export function load(content: string | Uint8Array, overrides: Overrides = {}): LoadedConfig {
  const path = join(scratchFolder(), "config.yaml");
  writeFileSync(path, content);
  return loadConfig({ path, explicit: true, env: {}, flags: {}, ...overrides });
}

export function configOf(content: string, overrides: Overrides = {}): Config {
  return load(content, overrides).config;
}

/** The problems of a file of this content as they are printed, with `FILE` for its name; none when it loads. */
export function problemsIn(content: string | Uint8Array, overrides: Overrides = {}): readonly string[] {
  try {
    load(content, overrides);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((problem) => formatProblem(problem).replace(/^\S*config\.yaml/, "FILE"));
  }
}
