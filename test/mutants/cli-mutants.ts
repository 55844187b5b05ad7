/** Bugs of the command line. */
import { type Mutant, planted } from "./mutant.ts";

const FAMILY = planted(
  "src/cli/run/processes.ts",
  ["test/cli/family.test.ts"],
  [
    {
      name: "A number that came again is taken for the command",
      find: "pid === root?.pid && startTime !== root.startTime",
      replace: "pid === root?.pid && startTime < 0",
    },
    {
      name: "A process is the lease's for words inside another variable",
      find: "Buffer.concat([Buffer.of(0), readFileSync(path)]).includes(mark)",
      replace: "readFileSync(path).includes(mark.subarray(1))",
    },
  ],
);

const CAGE = planted(
  "src/cli/run/processes.ts",
  ["test/e2e/run/run.test.ts"],
  [
    {
      name: "What is in a command's control group alone is not ended",
      find: "isRoots || kept.has(pid) || bears(pid, mark)",
      replace: "isRoots || bears(pid, mark)",
    },
    {
      name: "A command's control group is left behind",
      file: "src/cli/run/keeper.ts",
      find: "if (this.#hold.cage !== null) removeCage(this.#hold.cage);",
      replace: "",
    },
  ],
).map((mutant) => ({ ...mutant, built: true as const }));

const TOP = planted(
  "src/cli/top/top.ts",
  ["test/e2e/run/top.test.ts"],
  [
    {
      name: "A lease is released whatever the answer is",
      find: 'if (key === "y") void this.#do(',
      replace: "if (key !== undefined) void this.#do(",
    },
    {
      name: "A key that is pressed right behind an arrow is for the row before",
      find: "      this.#draw();\n    }\n  }",
      replace: "    }\n    this.#draw();\n  }",
    },
    {
      name: "The terminal is not given back when a signal ends top",
      find: 'for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, leave);',
      replace: "",
    },
  ],
).map((mutant) => ({ ...mutant, built: true as const }));

const SCREEN = planted(
  "src/cli/top/screen.ts",
  ["test/cli/top/screen.test.ts"],
  [
    {
      name: "The first table of top takes the room of the others",
      find: "if (room < needs.length || needs.reduce((sum, need) => sum + need, 0) <= room) return needs;",
      replace: "if (room >= 0) return needs;",
    },
  ],
);

const CLUSTER = planted(
  "src/cli/verbs/cluster.ts",
  ["test/cli/verbs/cluster.test.ts"],
  [
    {
      name: "A workload that has not drifted is shown as one with a trouble",
      find: 'new Set(["Stuck", "Drifted"])',
      replace: 'new Set(["Stuck"])',
    },
  ],
);

export const CLI_MUTANTS: readonly Mutant[] = [...FAMILY, ...CAGE, ...TOP, ...SCREEN, ...CLUSTER];
