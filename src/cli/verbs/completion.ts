/** Completion of verbs and their flags, made from the program itself, so that it cannot lag behind. */
import type { Command } from "commander";
import { UsageError } from "../exits.ts";

interface Verb {
  readonly name: string;
  readonly flags: readonly string[];
  /** What may stand behind it: the verbs within it, or the words that its first argument may be. */
  readonly next: readonly string[];
}

export function completion(shell: string, program: Command): string {
  const verbs = program.commands
    .filter((command) => !isHidden(command))
    .map((command) => ({
      name: command.name(),
      flags: command.options.flatMap(({ long }) => long ?? []),
      next: nextOf(command),
    }));
  if (shell === "bash") return bash(verbs);
  if (shell === "zsh") return `autoload -U +X bashcompinit && bashcompinit\n${bash(verbs)}`;
  if (shell === "fish") return fish(verbs);
  throw new UsageError(`${shell}: expected bash, zsh or fish`);
}

/** Arguments are named after the words that they may be, as `list|cancel`; others are ids of something. */
function nextOf({ commands, registeredArguments: [first] }: Command): readonly string[] {
  if (commands.length > 0) return commands.map((command) => command.name());
  const words = first?.name().split("|") ?? [];
  return words.length < 2 || words.includes("id") ? [] : words;
}

function isHidden(command: Command): boolean {
  return (command as unknown as { readonly _hidden?: boolean })._hidden === true;
}

/** After `--` the command of `gpuo run` completes itself. */
function bash(verbs: readonly Verb[]): string {
  const cases = verbs.map(
    ({ name, flags, next }) => `    ${name}) words="${flags.join(" ")}" next="${next.join(" ")}" ;;`,
  );
  return [
    "_gpuo() {",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is Bash's.
    '  local word="${COMP_WORDS[COMP_CWORD]}" words next i',
    "  for ((i = 1; i < COMP_CWORD; i++)); do",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is Bash's.
    '    if [ "${COMP_WORDS[i]}" = "--" ]; then',
    '      if declare -F _command_offset >/dev/null; then _command_offset $((i + 1)); else COMPREPLY=($(compgen -f -- "$word")); fi',
    "      return",
    "    fi",
    "  done",
    `  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "${verbs.map(({ name }) => name).join(" ")}" -- "$word")); return; fi`,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is Bash's.
    '  case "${COMP_WORDS[1]}" in',
    ...cases,
    "  esac",
    '  if [ "$COMP_CWORD" -eq 2 ] && [ -n "$next" ]; then words="$words $next"; COMPREPLY=($(compgen -W "$words" -- "$word")); return; fi',
    '  case "$word" in -*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;; *) COMPREPLY=($(compgen -f -- "$word")) ;; esac',
    "}",
    "complete -F _gpuo gpuo gpu-orchestrator",
  ].join("\n");
}

function fish(verbs: readonly Verb[]): string {
  return ["gpuo", "gpu-orchestrator"]
    .flatMap((program) => [
      `complete -c ${program} -n __fish_use_subcommand -f -a "${verbs.map(({ name }) => name).join(" ")}"`,
      ...verbs.flatMap(({ name, next }) =>
        next.length === 0
          ? []
          : [`complete -c ${program} -n "__fish_seen_subcommand_from ${name}" -f -a "${next.join(" ")}"`],
      ),
      ...verbs.flatMap(({ name, flags }) =>
        flags.map((flag) => `complete -c ${program} -n "__fish_seen_subcommand_from ${name}" -l ${flag.slice(2)}`),
      ),
    ])
    .join("\n");
}
