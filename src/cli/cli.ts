/**
 * The command line: which verbs there are, and which exit code says what. What a verb does is loaded when it is called,
 * so that looking at the GPUs does not wait for the daemon's code.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { clusterVerbs } from "./cluster-verbs.ts";
import { lookingVerbs } from "./looking-verbs.ts";
import { type Group, hostVerb, runWith, verb } from "./program.ts";
import { serveVerb } from "./serve-verb.ts";
import { workVerbs } from "./work-verbs.ts";

/** Under which heading the help of the program shows which verbs. */
const HEADINGS: readonly (readonly [string, Group])[] = [
  ["Run on GPUs:", runVerbs],
  ["Look:", (program) => lookingVerbs(program)],
  ["Ask for GPUs, for scripts:", askingVerbs],
  ["What was, and what is allowed:", reportVerbs],
  ["Tasks and services that the daemon runs:", workVerbs],
  ["For admins, with a reason:", adminVerbs],
  ["On the daemon's own host:", hostVerbs],
  ["Several hosts:", clusterVerbs],
];

export const GROUPS: readonly Group[] = HEADINGS.map(([heading, add]) => (program: Command) => {
  program.commandsGroup(heading);
  add(program);
});

export function run(argv: readonly string[]): Promise<void> {
  return runWith(argv, GROUPS);
}

function runVerbs(program: Command): void {
  const running = (command: Command) =>
    command
      .option("-g, --gpus <n>", "how many GPUs")
      .option("--gpu <list>", "just these, such as 1,3")
      .option("--mem <size>", "memory of each: 20G (GiB), 20GB, or MiB")
      .option("--gpu-model <text>", "part of the model's name, such as H100")
      .addOption(new Option("--mig <profile>").hideHelp())
      .option("--priority <n>", "1 to 10, higher is more urgent")
      .option("--wait [duration]", "wait no longer than this (default: without end)")
      .option("--no-wait", "now or not at all")
      .option("--ttl <duration>", "the end unless renewed (10m; 2m on another host)")
      .option("--max-duration <duration>", "the hard end; stated, it may start sooner")
      .option("--shared", "beside others on the same GPU, within --mem")
      .option("--preemptible", "may be taken back for a more urgent request")
      .option("--name <name>", "the service's name (default: you and the command)")
      .addOption(new Option("--type <type>").hideHelp())
      .addOption(new Option("--data <key=value...>").hideHelp())
      .option("--dry-run", "say what would come of it, and run nothing")
      .option("--visible <how>", "CUDA_VISIBLE_DEVICES by uuid or index")
      .option("--grace <duration>", "from SIGTERM to SIGKILL (default: 30s)")
      .option("--keep-running", "leave the command alone when the lease is lost")
      .option("--preempt-signal <name>", "sent when the GPUs are to be given back")
      .option("--notify-before <duration>", "send it so long before --max-duration too")
      .addHelpText("after", "Exits as the command; 124 waited too long, 75 none free, 125 to 127 not run.");
  running(
    verb(program, "run", "run a command on GPUs, and give them back", "gpuo run -g 2 --mem 40G -- python train.py"),
  )
    .usage("[options] -- command ...")
    .argument("<command...>")
    .passThroughOptions()
    .action(async (command, options) => (await import("./run/run.ts")).runCommand(command, options));
  running(verb(program, "shell", "your shell, with GPUs", "gpuo shell -g 1 --max-duration 2h")).action(
    async (options) => (await import("./run/run.ts")).runCommand([process.env.SHELL ?? "/bin/sh"], options),
  );
  program.command("keeper", { hidden: true }).action(async () => (await import("./run/keeper.ts")).keep());
}

/** A task's id begins so; a request's too where its service is called task. */
const TASK_ID = /^task-/i;

function withAsk(command: Command): Command {
  return command
    .option("-g, --gpus <n>", "how many GPUs")
    .option("--gpu <list>", "just these, such as 1,3")
    .option("--mem <size>", "memory of each: 20G (GiB), 20GB, or MiB")
    .option("--gpu-model <text>", "part of the model's name, such as H100")
    .option("--mig <profile>", "a MIG instance, such as 1g.10gb")
    .option("--priority <n>", "1 to 10, higher is more urgent")
    .option("--ttl <duration>", "how long it lasts without a renewal")
    .option("--max-duration <duration>", "its end, whatever is renewed; stated, it may start sooner")
    .option("--shared", "beside others on the same GPU, within --mem")
    .option("--preemptible", "may be taken back for a more urgent request")
    .option("--name <name>", "the service's name")
    .option("--type <type>", "training, inference, embedding, ocr, graph_processing")
    .option("--data <key=value...>", "facts about the workload");
}

function askingVerbs(program: Command): void {
  const ask = () => import("./verbs/ask.ts");
  withAsk(
    verb(program, "allocate", "lease GPUs, for scripts", 'eval "$(gpuo allocate -g 1 --max-duration 2h --export)"'),
  )
    .option("--export", "wait, then print what sets the environment")
    .option("--wait [duration]", "wait for the grant; without a duration, without end")
    .option("--no-queue", "now or not at all")
    .option("--webhook <url>", "told of the grant and of the end")
    .action(async (options) => (await ask()).allocate(options));
  withAsk(verb(program, "plan", "what an allocate would come to; changes nothing", "gpuo plan -g 2 --mem 40G")).action(
    async (options) => (await ask()).plan(options),
  );
  verb(program, "release", "give leases back, and cancel what waits", "gpuo release 01m8npxehgbz")
    .argument("[id...]", "ids, or what they begin or end with")
    .option("--mine", "all that you own")
    .option("--service <name>", "all that you own of this service")
    .action(async (ids, options) => (await ask()).release(ids, options));
  verb(program, "renew", "put a lease's end off by its TTL", "gpuo renew ID")
    .argument("<id>")
    .action(async (id, options) => (await ask()).renew(id, options));
  verb(program, "extend", "let a lease last so long from now", "gpuo extend ID 2h")
    .argument("<id>")
    .argument("<duration>", "such as 2h, 90m or 1h30m")
    .action(async (id, duration, options) => (await ask()).extend(id, duration, options));
  verb(program, "nudge", "send whoever holds GPUs a message", "gpuo nudge ID -m 'done by six?'")
    .argument("<id>")
    .requiredOption("-m, --message <text>", "what they are to read, by webhook, event and gpuo run")
    .action(async (id, options) => (await ask()).nudge(id, options));
  verb(program, "wait", "wait until a request is granted, a task is over or a service runs", "gpuo wait ID")
    .argument("<id>")
    .option("--export", "print what sets the environment")
    .action(async (id, options) => {
      if (TASK_ID.test(id) && (await (await import("./verbs/work.ts")).waitedFor(id, options))) return;
      try {
        await (await ask()).wait(id, options);
      } catch (error) {
        const isNone = (error as Error).name === "NoSuchError";
        if (!isNone || !(await (await import("./verbs/work.ts")).serviceWaitedFor(id, options))) throw error;
      }
    });
  const booking = () => import("./verbs/reserve.ts");
  verb(program, "reserve", "keep GPUs from a time for a while", "gpuo reserve -g 2 --from 'tomorrow 14:00' --for 2h")
    .option("-g, --gpus <n>", "how many GPUs", "1")
    .option("--gpu <list>", "just these, such as 1,3")
    .option("--from <when>", "14:00, 'tomorrow 14:00', 'mon 9:00', 2h, 2026-12-01 14:00 (default: now)")
    .option("--for <duration>", "how long")
    .option("--to <when>", "until when, instead of --for; 16:00 is the next after --from")
    .option("--name <name>", "only for requests of this service")
    .option("--principal <name>", "whose requests may use them; of admins (default: yours)")
    .action(async (options) => (await booking()).reserve(options));
  verb(program, "reservations", "what is kept for whom once; give one up", "gpuo reservations cancel ID")
    .argument("[list|cancel]", "", "list")
    .argument("[id]")
    .action(async (what, id, options) => (await booking()).reservations(what, id, options));
  verb(program, "cancel", "stop waiting", "gpuo cancel ID")
    .argument("<id>")
    .action(async (id, options) => (await ask()).cancel(id, options));
}

function reportVerbs(program: Command): void {
  const reports = () => import("./verbs/reports.ts");
  verb(program, "events", "what has happened, and what happens", "gpuo events -f --type granted --type ended")
    .option("-f, --follow", "go on as it happens")
    .option("--since <duration>", "from so long ago (default: 1h, with -f: now)")
    .option("--type <type...>", "only these, such as granted; docs/events.md lists them")
    .action(async (options) => (await reports()).events(options));
  verb(program, "usage", "GPU-hours reserved and used", "gpuo usage --by principal --from 7d")
    .option("--by <what>", "service, principal or gpu", "service")
    .option("--from <when>", "a time, a date, or how long ago (default: 24h)")
    .option("--to <when>", "likewise (default: now)")
    .action(async (options) => (await reports()).usage(options));
  verb(program, "quotas", "what you and your services may have, and have", "gpuo quotas").action(async (options) =>
    (await reports()).quotas(options),
  );
  verb(program, "windows", "when GPUs are kept for whom", "gpuo windows").action(async (options) =>
    (await reports()).windows(options),
  );
  verb(program, "webhooks", "what was sent, what failed; send again", "gpuo webhooks list --state failed")
    .argument("[list|show|redeliver|test]", "", "list")
    .argument("[id|url]", "a delivery; of test, where to send one that tells of nothing")
    .option("--state <state>", "only those in it")
    .option("--limit <n>", "how many, newest first, up to 1000", "100")
    .action(async (what, id, options) => (await reports()).webhooks(what, id, options));
  verb(program, "mcp", "GPUs for programs that act on their own, by MCP", "gpuo mcp --allow-allocate")
    .option("--allow-allocate", "let it lease too; without it, it looks and plans (on stdin and stdout)")
    .action(async (options) => (await import("./verbs/mcp.ts")).mcp(options));
  verb(program, "audit", "who changed or was refused what; for admins", "gpuo audit --since 1d --refused")
    .option("--since <when>", "a time, a date, or how long ago")
    .option("--principal <name>", "only what it did")
    .option("--object <id>", "only what was about this allocation, GPU or webhook")
    .option("--refused", "only refusals")
    .option("--limit <n>", "how many, newest first", "100")
    .option("--all", "all there is: with --json an export, one line an entry")
    .action(async (options) => (await import("./verbs/audit.ts")).audit(options));
  verb(program, "doctor", "what is wrong with the set-up, and the remedy", "gpuo doctor")
    .option("--config <file>", "the daemon's settings on this host")
    .action(async (options) => (await import("./verbs/doctor.ts")).doctor(options));
}

function adminVerbs(program: Command): void {
  const admin = () => import("./verbs/admin.ts");
  const reasoned = (name: string, summary: string, example: string) =>
    verb(program, name, summary, example).requiredOption("--reason <text>", "kept, and shown with what it explains");
  reasoned("cordon", "no new leases on a GPU", "gpuo cordon 3 --reason 'fan is loud'")
    .argument("<gpu...>")
    .action(async (gpus, options) => (await admin()).govern("cordon", gpus, options));
  reasoned("uncordon", "take that back", "gpuo uncordon 3 --reason 'fan replaced'")
    .argument("<gpu...>")
    .action(async (gpus, options) => (await admin()).govern("uncordon", gpus, options));
  reasoned("drain", "cordon a GPU or the host, and empty it", "gpuo drain --reason update --deadline 2h")
    .argument("[gpu...]", "without one, the host")
    .option("--deadline <duration>", "leases still there then end (default: they end by themselves)")
    .action(async (gpus, options) => (await admin()).drain(gpus, options));
  reasoned(
    "pause-queue",
    "grant nothing new; leases stay",
    "gpuo pause-queue --reason 'the power is being measured'",
  ).action(async (options) => (await admin()).pauseQueue(options));
  reasoned("resume-queue", "take that back", "gpuo resume-queue --reason 'it has been'").action(async (options) =>
    (await admin()).resumeQueue(options),
  );
  reasoned("undrain", "take that back", "gpuo undrain --reason 'updated'")
    .argument("[gpu...]", "without one, the host")
    .action(async (gpus, options) => (await admin()).undrain(gpus, options));
  reasoned(
    "adopt",
    "make a lease of somebody's use of a GPU",
    "gpuo adopt 3 --service old-job --reason 'ran before us'",
  )
    .argument("<gpu>")
    .option("--service <name>", "who is to hold it")
    .option("--principal <name>", "who is to own it (default: you)")
    .option("--pid <n>", "one of the processes there")
    .action(async (gpu, options) => (await admin()).adopt(gpu, options));
  reasoned("revoke", "end somebody's lease", "gpuo revoke ID --reason 'the GPU is to be replaced'")
    .argument("<id...>")
    .action(async (ids, options) => (await admin()).revoke(ids, options));
  reasoned("clear-quarantine", "trust a GPU again", "gpuo clear-quarantine 3 --reason 'process is gone'")
    .argument("<gpu...>")
    .action(async (gpus, options) => (await admin()).govern("clear-quarantine", gpus, options));
}

function hostVerbs(program: Command): void {
  const host = () => import("./host-verbs.ts");
  verb(program, "keys", "make, list and revoke API keys", "gpuo keys create alice --expires 2027-06-30")
    .argument("<create|list|revoke>", "create: a line for the settings, or with auth.store: database a key there")
    .argument("[principal|id]", "who is to own what is asked for with it; of revoke, the key's id")
    .option("--role <role>", "read, allocate, run or admin", "allocate")
    .option("--expires <when>", "a day such as 2027-06-30, or a time with its zone (default: never)")
    .option("--config <file>", "the daemon's settings on this host")
    .action(async (what, which, options) => (await import("./verbs/keys.ts")).keys(what, which, options));
  serveVerb(program, async (options) => (await import("./serve.ts")).serve(options));
  hostVerb(program, "check-config", "check a settings file, and say what is wrong with it", "gpuo check-config my.yaml")
    .argument("[file]", "the file (default: as for serve)")
    .action(async (file) => (await host()).checkConfig(file));
  hostVerb(program, "health", "exit 0 if the daemon is alive: for health checks", "gpuo health --config my.yaml")
    .option("--config <file>", "settings in YAML (default: as for serve)")
    .action(async (options) => (await host()).health(options));
  hostVerb(program, "backup", "copy the database into one file", "gpuo backup /backups/gpus.db --overwrite")
    .argument("<file>", "the file to make, while the daemon runs or not")
    .option("--config <file>", "settings in YAML (default: as for serve)")
    .option("--database <file>", "the database (default: storage.path of the settings)")
    .option("--overwrite", "replace the file if it exists")
    .action(async (file, options) => (await host()).makeBackup(file, options));
  hostVerb(program, "restore", "put a backup in the database's place", "gpuo restore /backups/gpus.db")
    .argument("<file>", "what backup made; the daemon must be stopped")
    .option("--config <file>", "settings in YAML (default: as for serve)")
    .option("--database <file>", "the database (default: storage.path of the settings)")
    .action(async (file, options) => (await host()).restoreBackup(file, options));
  hostVerb(program, "replay", "make a past decision again, and say why", "gpuo replay data/gpu-orchestrator.db --at 17")
    .argument("<file>", "the database, live or a backup: it is only read")
    .requiredOption("--at <event>", "an event of that decision: an id of GET /gpu/events", eventNumber)
    .option("--json", "everything as JSON, workload data included")
    .action(async (file, options) => (await host()).replayDecision(file, options));
}

function eventNumber(text: string): number {
  const event = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(event) || event < 1) {
    throw new InvalidArgumentError("expected the number of an event, from 1.");
  }
  return event;
}
