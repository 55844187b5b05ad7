/** The daemon's settings, as its own verbs and the other verbs of its host find them. */
import { chooseConfigFile, type Flags, type LoadedConfig, loadConfig } from "../config/load.ts";
import type { Rule } from "../config/rules.ts";

export interface ServeOptions extends Flags {
  readonly config?: string;
}

export function load({ config: named, ...flags }: ServeOptions, rules: readonly Rule[] = []): LoadedConfig {
  return loadConfig({ ...chooseConfigFile(named, process.env), env: process.env, flags, rules });
}
