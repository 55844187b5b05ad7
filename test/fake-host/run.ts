/** `npm run fake-host`: a host to try the daemon on without a GPU, and ways to break it. See docs/fake-host.md. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { FakeHostFolder, type FakeHostState } from "./host.ts";
import * as verbs from "./verbs.ts";

const DAEMON = fileURLToPath(new URL("../../dist/gpu-orchestrator.js", import.meta.url));

const program = new Command("npm run fake-host --").description(
  "A host without GPUs, for watching how the daemon takes it when they fail",
);
program.option("--folder <path>", "where the host is", "data/fake-host");

const whole = (text: string) => {
  if (!/^\d{1,7}$/.test(text)) throw new InvalidArgumentError("expected a whole number");
  return Number(text);
};

const host = () => {
  const { folder } = program.opts<{ folder: string }>();
  if (!FakeHostFolder.exists(folder))
    program.error(`there is no host in ${folder}: make one with \`new\` or \`serve\``);
  return new FakeHostFolder(folder);
};

function make(gpus: number): FakeHostFolder {
  const made = new FakeHostFolder(program.opts<{ folder: string }>().folder, gpus);
  console.log(`${made.state.gpus.length} GPUs, shown by ${made.nvidiaSmi}; the settings are ${made.config}`);
  return made;
}

program
  .command("new")
  .description("make a host, unless there is one, and say how a daemon is set to it")
  .option("--gpus <n>", "how many", whole, 4)
  .action(({ gpus }: { gpus: number }) => {
    const { config } = make(gpus);
    console.log(`./gpuo serve --config ${config}`);
  });

program
  .command("serve")
  .description("the same, and run the daemon on it")
  .option("--gpus <n>", "how many", whole, 4)
  .action(async ({ gpus }: { gpus: number }) => {
    const { config } = make(gpus);
    const daemon = spawn(process.execPath, [DAEMON, "serve", "--config", config], { stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => daemon.kill(signal));
    const [code] = await once(daemon, "exit");
    process.exitCode = (code as number | null) ?? 1;
  });

program
  .command("show")
  .description("what the driver shows")
  .action(() => {
    const { gpus, instead } = host().state;
    for (const [index, { shows, present }] of gpus.entries()) {
      console.log(`${index} ${present ? "" : "(missing) "}${JSON.stringify(shows)}`);
    }
    if (instead !== null) console.log(`but nvidia-smi does this: ${JSON.stringify(instead).slice(0, 200)}`);
  });

type Change = (state: FakeHostState) => FakeHostState;

function ofGpu(name: string, description: string, change: (index: number) => Change): void {
  program
    .command(name)
    .description(description)
    .argument("<gpu>", "its index", whole)
    .action((index: number) => host().change(change(index)));
}

function ofAll(name: string, description: string, change: (state: FakeHostState) => FakeHostState): void {
  program
    .command(name)
    .description(description)
    .action(() => host().change(change));
}

ofGpu("lose", "the driver calls a GPU lost", verbs.lose);
ofGpu("spoil", "a lost GPU spoils the listing of all", verbs.spoil);
ofGpu("vanish", "a GPU is missing from the list", verbs.vanish);
ofGpu("ecc", "a GPU has uncorrectable memory errors", verbs.ecc);
ofGpu("reset", "a GPU asks for a reset", verbs.reset);
ofGpu("heat", "a GPU is hot, and slowed", verbs.heat);
ofGpu("ghost", "a GPU is 100 % busy for nobody", verbs.ghost);
ofGpu("isolate", "the NVLink fabric of a GPU is broken", verbs.isolate);
program
  .command("remap")
  .description("a row remapping of a GPU waits for a reset, or has failed")
  .argument("<gpu>", "its index", whole)
  .argument("<what>", "pending or failure")
  .action((index: number, what: string) => {
    if (what === "pending" || what === "failure") host().change(verbs.remap(index, what));
    else program.error("expected pending or failure");
  });
program
  .command("use")
  .description("a process runs on a GPU")
  .argument("<gpu>", "its index", whole)
  .option("--pid <n>", "a process of this machine is shown with its user", whole, 4711)
  .option("--mb <n>", "memory that it takes", whole, 8_000)
  .option("--type <type>", "C computes, G draws", "C")
  .option("--name <name>", "what it is called", "python3")
  .action((index: number, given: verbs.Use) => host().change(verbs.use(index, given)));
program
  .command("cut")
  .description("MIG is on, and a GPU is cut into instances")
  .argument("<gpu>", "its index", whole)
  .argument("[profiles...]", "such as 3g.40gb 1g.10gb 1g.10gb")
  .action((index: number, profiles: string[]) => host().change(verbs.cut(index, profiles)));
ofGpu("leave", "the processes on a GPU have gone, with their memory", verbs.leave);
program
  .command("fill")
  .description("memory is in use, and no process is seen")
  .argument("<gpu>", "its index", whole)
  .argument("<mb>", "how much", whole)
  .action((index: number, mb: number) => host().change(verbs.fill(index, mb)));
program
  .command("xid")
  .description("the kernel reports an error of a GPU")
  .argument("<number>", "such as 79", whole)
  .argument("<gpu>", "its index", whole)
  .action((number: number, index: number) => verbs.xid(host(), number, index));
ofAll("renumber", "the indices go round", verbs.renumber);
ofAll("hang", "nvidia-smi hangs", verbs.hang);
ofAll("stubborn", "it hangs, and SIGTERM does not end it", verbs.stubborn);
ofAll("garble", "it prints rubbish", verbs.garble);
ofAll("crash", "it ends by SIGSEGV", verbs.crash);
ofAll("truncate", "its output breaks off", (state) =>
  verbs.truncate(smiDocument({ gpus: state.gpus.map(({ shows }) => shows) }))(state),
);
program
  .command("exit")
  .description("nvidia-smi ends with this code, and says what goes with it")
  .argument("<code>", "such as 9, 12, 14, 18", whole)
  .action((code: number) => host().change(verbs.exit(code)));
ofAll("heal", "all is well again", verbs.heal);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof verbs.WrongVerb)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
