/** Bugs that show only when the whole program is killed, or used by many at once: the tests of the built program. */
import type { Mutant } from "./mutant.ts";

const KILL = "test/crash/kill.test.ts";
const CONCURRENCY = "test/concurrency/concurrency.test.ts";

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
    tests: [KILL],
    built: true,
  },
  {
    name: "The store's thread is not waited for: a turn is answered when it is handed over",
    file: "src/store/writer-thread.ts",
    find: "      this.#underWay = { resolve, reject };",
    replace: "      this.#underWay = { resolve, reject };\n      setImmediate(resolve, null);",
    tests: [KILL],
    built: true,
  },
  {
    name: "A caller is told of its place in line as it stands when the whole turn is over",
    file: "src/scheduler/scheduler.ts",
    find: "answers.push(() => letter.resolve(answer));",
    replace:
      "answers.push(() => letter.resolve({ ...answer, state: state.allocations.size > 0 ? state : answer.state }));",
    tests: [CONCURRENCY],
    built: true,
  },
];
