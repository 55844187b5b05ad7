/**
 * What of a spec may be shown to whoever may look: what is secret by its name is left out, in the environment, in arguments,
 * parameters and settings of an engine, however deep it stands. Pure.
 */
import type { WorkloadSpec } from "./workload.ts";

const SECRET_NAME = /token|key|secret|passw|credential/i;
/** An engine's own settings are of tokens, too: `max_tokens` and `tokenizer` may be seen, `hf_token` may not. */
const SECRET_SETTING = /secret|passw|credential|(token|keys?)$/i;
export const LEFT_OUT = "[left out]";

type Settings = Readonly<Record<string, unknown>>;

export function shownSpec(spec: WorkloadSpec): WorkloadSpec {
  const { parameters, engine } = spec;
  const { env, args, config } = engine ?? {};
  return {
    ...spec,
    ...(parameters === undefined ? {} : { parameters: shown(parameters, SECRET_SETTING) as Record<string, string> }),
    ...(engine === undefined
      ? {}
      : {
          engine: {
            ...engine,
            ...(env === undefined ? {} : { env: shownEnv(env) }),
            ...(args === undefined ? {} : { args: shownArgs(args) }),
            ...(config === undefined ? {} : { config: shownConfig(config) }),
          },
        }),
  };
}

export function shownEnv(env: Readonly<Record<string, string>>): Record<string, string> {
  return shown(env, SECRET_NAME) as Record<string, string>;
}

export function shownConfig(config: Settings): Record<string, unknown> {
  return shown(config, SECRET_SETTING) as Record<string, unknown>;
}

function shown(value: unknown, secret: RegExp): unknown {
  if (Array.isArray(value)) return value.map((one) => shown(one, secret));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => {
      const isSecret = secret.test(name) && one !== null && typeof one !== "boolean";
      return [name, isSecret ? LEFT_OUT : shown(one, secret)];
    }),
  );
}

/** What somebody was shown and has sent back changed: what was left out is as it was. */
export function restored(given: unknown, old: unknown): unknown {
  if (given === LEFT_OUT && old !== undefined) return old;
  if (Array.isArray(given)) {
    const before = Array.isArray(old) ? old : [];
    return given.map((one, index) => restored(one, before[index]));
  }
  if (typeof given !== "object" || given === null) return given;
  const before = typeof old === "object" && old !== null ? (old as Settings) : {};
  return Object.fromEntries(Object.entries(given).map(([name, one]) => [name, restored(one, before[name])]));
}

/** `--api-key=x`, `--api-key x y`, and both and `HF_TOKEN=x` within the words of a shell. */
function shownArgs(args: readonly string[]): string[] {
  let isSecret = false;
  return args.map((arg) => {
    const [, flag, value] = /^-+([\w.-]+)(=.*)?$/s.exec(arg) ?? [];
    if (flag !== undefined) {
      const isNamed = SECRET_SETTING.test(flag);
      isSecret = isNamed && value === undefined;
      return isNamed && value !== undefined ? `${arg.slice(0, -value.length)}=${LEFT_OUT}` : arg;
    }
    if (isSecret) return LEFT_OUT;
    const unlessSecret = (all: string, name: string, between: string) =>
      SECRET_SETTING.test(name) ? `${name}${between}${LEFT_OUT}` : all;
    return arg
      .replace(/([\w.-]+)(=)("[^"]*"|'[^']*'|\S+)/g, unlessSecret)
      .replace(/(--[\w.-]+)(\s+)("[^"]*"|'[^']*'|[^\s-]\S*)/g, unlessSecret);
  });
}
