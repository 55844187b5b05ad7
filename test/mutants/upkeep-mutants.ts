/** Bugs of what keeps work in order: its indexes, its two databases, its uploads, its containers. */
import { type Mutant, planted } from "./mutant.ts";

const HISTORIES = "test/work/simulation.test.ts";
const STATE = "test/work/state.test.ts";
const TOLD = "test/work-service/deliveries.test.ts";

const INDEXES = [
  ...planted(
    "src/work/state.ts",
    [STATE, HISTORIES],
    [
      {
        name: "A task of which a replica has ended is taken to rest",
        find: "return task.slots.some(({ live, outcome }) => live === null || outcome !== null);",
        replace: "return task.slots.every(({ live }) => live === null);",
      },
      {
        name: "All workloads are gone through for every task",
        find: "  foundServices.set(workloads, found);\n",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/work/tasks.ts",
    [STATE, HISTORIES],
    [
      {
        name: "A task does not hear that its run has begun",
        find: 'if (job?.kind === "task" && state.openTasks.get(job.uid) !== undefined) due.add(job.uid);',
        replace: "",
      },
    ],
  ),
];

const TWO_DATABASES = planted(
  "src/store/restore.ts",
  ["test/store/beside.test.ts"],
  [
    {
      name: "A restore that fails at its second database keeps the first",
      find: "for (const { file, kept } of begun) takeBack(file, kept);",
      replace: "",
    },
    {
      name: "The log of the second database is lost with it",
      find: '    pragma(database, "wal_checkpoint(TRUNCATE)");\n  } catch {',
      replace: "  } catch {",
    },
    {
      name: "The way back leaves the second database",
      find: "if (!existsSync(second)) return false;",
      replace: "if (existsSync(second)) return false;",
    },
  ],
);

const UPLOADS = [
  ...planted(
    "src/work-service/deliveries.ts",
    [TOLD],
    [
      {
        name: "A task's deliveries find open ports",
        find: "toAdmin || isToldToAll(httpStatus, error) ?",
        replace: "toAdmin || kind ?",
      },
      {
        name: "What MLOC's workers have sent is sent again",
        find: " && !uploadsItself.has(task.spec.executor)) {",
        replace: ") {",
      },
    ],
  ),
  ...planted(
    "src/work-service/routes/tasks.ts",
    [TOLD],
    [
      {
        name: "A result without one of its replicas is sent",
        find: "if (each.includes(null)) throw new Error(RESULT_INCOMPLETE);",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/work/wanted.ts",
    ["test/work/wanted.test.ts"],
    [
      {
        name: "Nodes are told the secrets of an upload",
        find: "? withoutUploadHeaders(shareOf(spec.document, run.replica, replicas))",
        replace: "? shareOf(spec.document, run.replica, replicas)",
      },
    ],
  ),
  ...planted(
    "executors/python/dataset.py",
    ["test/worker/vllm.test.ts"],
    [
      {
        name: "Every replica answers the whole dataset",
        find: "share_of(prompts_of(data))",
        replace: "prompts_of(data)",
      },
    ],
  ),
];

const CONTAINERS = planted(
  "src/worker/containers.ts",
  ["test/worker/containers.test.ts"],
  [
    {
      name: "An engine that says no five times is taken to have said yes",
      find: "    this.#isDone = isGone;\n",
      replace: "    this.#isDone = isGone || this.#refusals >= 2;\n",
    },
    {
      name: "An engine that says no is asked at every look",
      find: "performance.now() >= this.#notBefore) this.#ask();",
      replace: "true) this.#ask();",
    },
    {
      name: "An engine that knows no such container is asked for ever",
      find: "|| isUnknown(said)",
      replace: "|| (isUnknown(said) && false)",
    },
  ],
);

export const UPKEEP_MUTANTS: readonly Mutant[] = [...INDEXES, ...TWO_DATABASES, ...UPLOADS, ...CONTAINERS];
