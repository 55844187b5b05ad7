/** Bugs of several hosts: in what controller and members say to each other, and in the streams between them. */
import { type Mutant, planted } from "./mutant.ts";

const RULES = "test/work-service/cluster/rules.test.ts";
const BOOKS = "test/work/nodes.test.ts";

const MEMBER = planted(
  "src/work-service/elsewhere/member.ts",
  [RULES],
  [
    {
      name: "A node goes by when it was answered, and not by when it has asked",
      find: "if (sentAt !== undefined) this.#files.heard(sentAt);",
      replace: "if (sentAt !== undefined) this.#files.heard(this.#files.uptimeMs());",
    },
    {
      name: "What was to stop before it came begins when it comes",
      find: "|| this.#refused.has(run) ||",
      replace: "||",
    },
    {
      name: "A node says nothing when what was written to it may be lost",
      find: 'restored: () => void this.#report("hello")',
      replace: "restored: () => undefined",
    },
    {
      name: "A node gives nothing back that another could start now",
      find: 'else if (message.type === "recall") this.#recall(message.assignment);',
      replace: 'else if (message.type === "recall") this.#recall("");',
    },
  ],
);

const CONTROLLER = planted(
  "src/work-service/elsewhere/controller.ts",
  [RULES],
  [
    {
      name: "What was lost on its way is never told again",
      find: "waiting === 0 || now - at",
      replace: "waiting === -1 || now - at",
    },
    {
      name: "What a node has not read yet is sent beside itself with every heartbeat",
      find: "waiting === 0 || now - at",
      replace: "waiting !== null || now - at",
    },
    {
      name: "Nothing is asked back from a node's line",
      find: 'void this.#send("recall", run.node,',
      replace: 'void this.#send("recall", "nobody",',
    },
    {
      name: "A node whose farewell was heard is still given work",
      find: 'this.#books.command({ type: "node-leaves", node, instance, seq, runs: runs ?? [] });',
      replace: 'this.#books.command({ type: "node-leaves", node, instance, seq: -1, runs: runs ?? [] });',
    },
  ],
);

const STREAMS = planted(
  "src/broker/streams.ts",
  [RULES],
  [
    {
      name: "What an earlier process has read and not acknowledged is read by nobody",
      find: 'let from = "0";',
      replace: 'let from = ">";',
    },
    {
      name: "What was taken stays in Redis",
      find: 'await redis.call(["XDEL", stream, ...taken]);',
      replace: "",
    },
    {
      name: "Only the first of what was read at once is acknowledged",
      find: 'await redis.call(["XACK", stream, group, ...taken]);',
      replace: 'await redis.call(["XACK", stream, group, taken[0] as string]);',
    },
    {
      name: "A message is acknowledged though it could not be stored",
      find: "await this.#take(id, fields);\n        taken.push(id);",
      replace: "taken.push(id);\n        await this.#take(id, fields);",
    },
  ],
);

const PROPOSALS = planted(
  "src/work/nodes.ts",
  [BOOKS, RULES],
  [
    {
      name: "What a silent node runs without a deadline is given up with the rest",
      find: "return !isTask(job) || (fence !== null &&",
      replace: "return !isTask(job) || fence === null || (fence !== null &&",
    },
    {
      name: "What a leaving node has goes elsewhere beside it",
      find: "run.node !== node || has.has(id)) continue;",
      replace:
        'run.node !== node) continue;\n    if (has.has(id) && isOnNode(run)) declineRun(draft, run, node, "it has left", "like-any");\n    if (has.has(id)) continue;',
    },
    {
      file: "src/work/offers.ts",
      name: "All that wait are asked back for the one place that there is",
      find: "freeGpus: offer.freeGpus - count }",
      replace: "freeGpus: offer.freeGpus + count }",
    },
    {
      file: "src/work/workers.ts",
      name: "A node that gives back what it was asked for counts as one that declines",
      find: "else if (run.recalled === true)",
      replace: "else if (run.recalled === true && run.known === false)",
    },
    {
      file: "src/work/workers.ts",
      name: "A node is sent all that it is to have at once",
      find: "if (--room < 0) return;",
      replace: "if (--room < -1e9) return;",
    },
    {
      file: "src/work/runs.ts",
      name: "A start that nobody has seen costs nothing",
      find: 'mayHaveBegun: isOnNode(run) && seen === null && (reason === "lost" || reason === "rebooted"),',
      replace: "mayHaveBegun: false,",
    },
    {
      file: "src/work/tasks.ts",
      name: "A node forgets what its controller has not heard the end of",
      find: " || task.origin?.settled === false) continue;",
      replace: ") continue;",
    },
  ],
);

const INSTANCES = planted(
  "src/platform/instance.ts",
  ["test/platform/instance.test.ts"],
  [
    {
      name: "Every process leaves its number behind",
      find: "for (const old of earlier) rmSync(fileOf(folder, of, old)",
      replace: 'for (const old of earlier) rmSync(fileOf(folder, "none", old)',
    },
    {
      name: "Two processes that begin at the same time are the same one",
      find: 'if (code === "EEXIST") return false;',
      replace: 'if (code === "EEXIST") return true;',
    },
  ],
);

export const SEVERAL_HOSTS_MUTANTS: readonly Mutant[] = [
  ...MEMBER,
  ...CONTROLLER,
  ...STREAMS,
  ...PROPOSALS,
  ...INSTANCES,
];
