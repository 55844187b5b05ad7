/**
 * The frame of the command line: what every verb has in common, help, and which exit code says what. The verbs are in
 * groups: whoever runs the program says which it knows.
 */
import { Command, CommanderError, Help, Option } from "commander";
import { EXIT, exitCodeOf, wordsOf } from "./exits.ts";
import { VERSION } from "./version.ts";

/** Adds its verbs. */
export type Group = (program: Command) => void;

/** Verbs that share their pipes with a command. */
const RUNNING: ReadonlySet<string> = new Set(["run", "shell", "keeper"]);

const COMMON_HELP = "Also: --url, --host, --key-file, --json, -q, --no-color (gpuo help connection)";

const CONNECTION_HELP = `Every verb but those of the daemon's host takes:
  --url <url>        the daemon: http://HOST:PORT, https://HOST or unix:/PATH
                     (default: $GPU_ORCHESTRATOR_URL, else what cli.yaml says, else
                     the socket /run/gpu-orchestrator/gpuo.sock where there is one,
                     else http://127.0.0.1:8086)
  --host <name>      one of the hosts in cli.yaml
  --key-file <file>  the API key (default: $GPU_ORCHESTRATOR_API_KEY_FILE, else
                     what is in $GPU_ORCHESTRATOR_API_KEY)
  --json             JSON as the API has it; one line an object for lists
  -q, --quiet        data alone, no talk
  --no-color         no colours; NO_COLOR does the same

$XDG_CONFIG_HOME/gpu-orchestrator/cli.yaml may have url, key_file, host, and
hosts: {NAME: {url, key_file}}.

Exit codes: 0; 1 refused; 64 usage; 69 unreachable; 75 try later;
77 not allowed; 78 settings. Those of gpuo run: gpuo run --help.`;

/** @param groups in the order in which the help shows them. */
export async function runWith(argv: readonly string[], groups: readonly Group[]): Promise<void> {
  const program = programOf(groups);
  const [node = "", file = "", ...given] = argv;
  const words = verbFirst(given);
  try {
    await program.parseAsync([node, file, ...words]);
  } catch (error) {
    process.exitCode = await failed(error, program, words[0]);
  }
}

/** What every verb takes may stand before it too: `gpuo --url unix:/run/x.sock status`. */
function verbFirst(words: readonly string[]): readonly string[] {
  let at = 0;
  while (/^(?:--(?:json|quiet|no-color)|-q|--(?:url|host|key-file)=.*)$/.test(words[at] ?? "") || takesNext(words[at]))
    at += takesNext(words[at]) ? 2 : 1;
  return at === 0 || at >= words.length
    ? words
    : [...words.slice(at, at + 1), ...words.slice(0, at), ...words.slice(at + 1)];
}

function takesNext(word: string | undefined): boolean {
  return word === "--url" || word === "--host" || word === "--key-file";
}

export function programOf(groups: readonly Group[]): Command {
  const program = new Command("gpuo")
    .description("Leases the GPUs of one host to those who need them.")
    .version(VERSION)
    .exitOverride()
    .helpCommand(false)
    .enablePositionalOptions()
    .addHelpText("after", "\ngpuo VERB --help says more; gpuo help connection: where the daemon is, keys, exit codes");
  program.configureHelp(HELP);
  program.configureOutput({
    writeOut(help) {
      endWithReader();
      process.stdout.write(help);
    },
  });
  program.hook("preAction", (_program, called) => {
    // Node's streams would change the pipes that gpuo shares with a command.
    if (!RUNNING.has(called.name())) endWithReader();
  });
  for (const group of groups) group(program);
  program.commandsGroup("Your shell:");
  hostVerb(program, "completion", "print what completes verbs and flags", 'eval "$(gpuo completion bash)"')
    .argument("<bash|zsh|fish>", "the shell")
    .action(async (shell: string) => console.log((await import("./verbs/completion.ts")).completion(shell, program)));
  program
    .command("help", { hidden: true })
    .argument("[topic...]")
    .action(async (topics: readonly string[]) => help(program, topics));
  return program;
}

/** At most a screen of 24 lines: no blank lines but one, and nothing of what every verb takes. */
const HELP: Partial<Help> = {
  subcommandTerm: (command) => command.name(),
  visibleOptions: (command) => (command.parent === null ? [] : command.options.filter(({ hidden }) => !hidden)),
  formatHelp: (command, helper) => {
    const whole = Help.prototype.formatHelp.call(helper, command, helper as Help);
    return command.parent === null ? whole : `${whole.trimEnd().replaceAll("\n\n", "\n")}\n`;
  },
};

/** Of a verb, or of one within it: `gpuo help cluster apply`. */
async function help(program: Command, topics: readonly string[]): Promise<void> {
  if (topics.join(" ") === "connection") {
    console.log(CONNECTION_HELP);
    return;
  }
  let known = program;
  for (const topic of topics) {
    const next = known.commands.find((command) => command.name() === topic);
    if (next === undefined) {
      const { nearest } = await import("../core/base/suggest.ts");
      const meant = nearest(topic, ["connection", ...known.commands.map((command) => command.name())]);
      program.error(`error: no help on '${topics.join(" ")}'${meant === null ? "" : `\n(Did you mean ${meant}?)`}`);
    } else known = next;
  }
  known.outputHelp();
}

/** A verb of a host's own: it calls no daemon. */
export function hostVerb(program: Command, name: string, summary: string, example: string, hidden = false): Command {
  return program
    .command(name, { hidden })
    .summary(summary)
    .description(summary)
    .addHelpText("before", `Example: ${example}`);
}

/** A verb of a client: with where the daemon is and how to print, which its help names in one line. */
export function verb(program: Command, name: string, summary: string, example: string): Command {
  const command = hostVerb(program, name, summary, example);
  const common = [
    new Option("--url <url>"),
    new Option("--host <name>"),
    new Option("--key-file <file>"),
    new Option("--json"),
    new Option("-q, --quiet"),
    new Option("--no-color"),
  ];
  for (const option of common) command.addOption(option.hideHelp());
  return command.addHelpText("after", COMMON_HELP);
}

/** commander suggests what its help shows; what every verb takes is hidden there. */
async function suggestCommon(message: string, program: Command): Promise<void> {
  const given = /'(--[^']+)'/.exec(message)?.[1];
  if (given === undefined || message.includes("Did you mean")) return;
  const { nearest } = await import("../core/base/suggest.ts");
  const hidden = program.commands
    .flatMap(({ options }) => options)
    .flatMap(({ long, hidden }) => (hidden && long) || []);
  const meant = nearest(given, [...new Set(hidden)]);
  if (meant !== null) console.error(`(Did you mean ${meant}?)`);
}

async function failed(error: unknown, program: Command, verb = ""): Promise<number> {
  if (error instanceof CommanderError) {
    if (error.code === "commander.unknownOption") await suggestCommon(error.message, program);
    // Its other codes are its command's.
    const ofUsage = RUNNING.has(verb) ? EXIT.ownFailure : EXIT.usage;
    return error.exitCode === 0 ? 0 : ofUsage;
  }
  // By its name: its class is in what is loaded for the host's verbs alone.
  if (error instanceof Error && error.name === "ConfigError") {
    const { formatProblems } = await import("../config/problems.ts");
    console.error(formatProblems(error as Parameters<typeof formatProblems>[0]));
    return EXIT.settings;
  }
  const [first = "", ...rest] = wordsOf(error);
  console.error([first, ...rest.map((line) => `  ${line}`)].join("\n"));
  return exitCodeOf(error);
}

/** Who reads the data has had enough: `gpuo events | head`. */
function endWithReader(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    process.stderr.write(`gpuo: what was to be printed is lost: ${error.message}\n`, () => process.exit(EXIT.refused));
  });
}
