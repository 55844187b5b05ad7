/** `llm-orchestrator-simple`: our daemon with that program's flags and its settings file. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { stringify } from "yaml";
import { ConfigError, formatProblem, formatProblems } from "../config/problems.ts";
import { simpleSettings } from "../config/simple.ts";
import { run } from "./cli.ts";
import { EXIT } from "./exits.ts";

/** What the settings come to, in the form that the daemon and its worker read. */
const GENERATED = "data/llm-orchestrator-simple/config.yaml";
const USAGE =
  "usage: llm-orchestrator-simple [--config FILE] [--port PORT] [--log-level debug|info|warn|error] [--host ADDRESS]";

/** @param argv as the process has it. The daemon's worker comes this way too, with the verb of its own. */
export async function runSimple(argv: readonly string[]): Promise<void> {
  const [node = "", self = "", ...args] = argv;
  if (args[0] === "worker") return run([...argv]);
  const serve = served(args);
  if (serve !== null) await run([node, self, ...serve]);
}

/** The arguments of our own program; `null`: they were wrong, and it has been said. */
function served(args: readonly string[]): string[] | null {
  try {
    const { values } = parseArgs({
      // As Go's programs take them: with one dash or two.
      args: args.map((arg) => arg.replace(/^-(?=[a-z]{2})/, "--")),
      options: {
        config: { type: "string" },
        port: { type: "string" },
        "log-level": { type: "string" },
        host: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help === true) {
      console.log(USAGE);
      return null;
    }
    const { config, port, host } = values;
    writeSettings(config, values["log-level"], host);
    const given = (name: string, value: string | undefined) => (value === undefined ? [] : [name, value]);
    return ["serve", "--config", GENERATED, ...given("--port", port), ...given("--host", host)];
  } catch (error) {
    const isBad = error instanceof ConfigError;
    console.error(isBad ? formatProblems(error) : `${(error as Error).message}\n${USAGE}`);
    process.exitCode = isBad ? EXIT.settings : EXIT.usage;
    return null;
  }
}

function writeSettings(file: string | undefined, level: string | undefined, host: string | undefined): void {
  const text = file === undefined ? "" : readFileSync(file, "utf8");
  const { settings, warnings } = simpleSettings(text, file ?? "", host);
  for (const warning of warnings) console.error(`warning: ${formatProblem(warning)}`);
  const logging = { ...(settings.logging as object), ...(level === undefined ? {} : { level }) };
  mkdirSync(dirname(GENERATED), { recursive: true });
  writeFileSync(
    GENERATED,
    `# Made by llm-orchestrator-simple${file === undefined ? "" : ` from ${file}`}, anew at each start.\n${stringify({ ...settings, logging })}`,
  );
}
