/**
 * Bugs that the tests of the built program must catch by themselves, whatever the tests of single rooms find: by killing
 * it between two instants, and by using it from many sides at once.
 */
import type { Mutant } from "./mutant.ts";

export const CRASH_MUTANTS: readonly Mutant[] = [
  {
    name: "Each statement of a turn is a transaction of its own",
    file: "src/store/writer.ts",
    find: "for (const [statement, ...parameters] of job.writes) this.#writes[statement].run(...parameters);",
    replace: `for (const [statement, ...parameters] of job.writes) {
      this.#writes[statement].run(...parameters);
      this.#commit.run();
      this.#begin.run();
    }`,
    tests: ["test/crash/kill.test.ts"],
    built: true,
  },
  {
    name: "The store's thread is not waited for: a turn is answered when it is handed over",
    file: "src/store/writer-thread.ts",
    find: "      this.#underWay = { resolve, reject };",
    replace: "      this.#underWay = { resolve, reject };\n      setImmediate(resolve, null);",
    tests: ["test/store/thread.test.ts"],
  },
  {
    name: "The store's thread writes small turns too once it is there",
    file: "src/store/writer-thread.ts",
    find: "const isThreads = this.#isLarge || this.#threadOwes;",
    replace: "const isThreads = true;",
    tests: ["test/store/thread.test.ts"],
  },
  {
    name: "A thread whose job failed, and may hold the file, is left for the main one",
    file: "src/store/writer-thread.ts",
    find: "const isThreads = this.#isLarge || this.#threadOwes;",
    replace: "const isThreads = this.#isLarge;",
    tests: ["test/store/thread.test.ts"],
  },
  {
    name: "A caller is told of its place in line as it stands when the whole turn is over",
    file: "src/http/allocations/routes.ts",
    find: "if (held === null) return queuedAnswer(first.allocation, first, [], more);",
    replace:
      "if (held === null) return queuedAnswer(first.allocation, { ...first, state: scheduler.state }, [], more);",
    tests: ["test/concurrency/concurrency.test.ts"],
    built: true,
  },
];
