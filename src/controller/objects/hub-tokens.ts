/**
 * Hub tokens in what callers send of an engine. There they would stand in the object, and with it in the database and in
 * answers: they have a Secret of their own. Pure.
 */
import { HUB_VARIABLES } from "./meta.ts";
import { LEFT_OUT } from "./secrets.ts";

interface EngineParts {
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  readonly args?: readonly string[] | undefined;
}

/** vLLM's own setting for one, as it is written in its files and on its command line. */
const SETTINGS = ["hf_token", "hf-token"] as const;
const FLAG = /^--hf[-_]token(=.|$)/s;

export interface HubToken {
  /** Below the engine. */
  readonly path: string;
  readonly token: string;
}

/** In the order in which one counts before another. `hf_token: true` is none: it says that there is one elsewhere. */
export function hubTokensIn({ env = {}, config = {}, args = [] }: EngineParts): readonly HubToken[] {
  const named = HUB_VARIABLES.map((name) => ({ path: `env.${name}`, token: env[name] }));
  const set = SETTINGS.map((name) => ({ path: `config.${name}`, token: config[name] }));
  const flags = args.flatMap((arg, index) => {
    if (!FLAG.test(arg)) return [];
    const token = arg.includes("=") ? arg.slice(arg.indexOf("=") + 1) : args[index + 1];
    return token === undefined || token.startsWith("-") ? [] : [{ path: `args.${index}`, token }];
  });
  return [...named, ...set, ...flags].flatMap(({ path, token }) =>
    typeof token === "string" && token !== "" && token !== LEFT_OUT ? [{ path, token }] : [],
  );
}

/** The same environment and settings without those that could be one. */
export function withoutHubTokens({
  env = {},
  config = {},
}: EngineParts): Required<Pick<EngineParts, "env" | "config">> {
  const found = new Set(hubTokensIn({ env, config }).map(({ path }) => path));
  const rest = <T>(part: string, of: Readonly<Record<string, T>>) =>
    Object.fromEntries(Object.entries(of).filter(([name]) => !found.has(`${part}.${name}`)));
  return { env: rest("env", env as Readonly<Record<string, string>>), config: rest("config", config) };
}
