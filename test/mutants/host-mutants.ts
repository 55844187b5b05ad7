/** Bugs of several hosts that show in a history, or when a node stops in order. */
import { type Mutant, planted } from "./mutant.ts";

const HISTORIES = planted(
  "src/work/nodes.ts",
  ["test/work-service/cluster/histories.test.ts"],
  [
    {
      name: "A run may outlive its assignment",
      find: "return ttlMs - graceMs - FENCE_MARGIN_MS;",
      replace: "return 2 * ttlMs;",
    },
    {
      name: "What a node that stops in order has is given to others",
      find: 'has.has(id)) continue;\n    if (run.phase === "assigned" || !run.known) {',
      replace: 'id === "") continue;\n    if (run.phase !== undefined) {',
    },
  ],
);

const FAREWELLS = planted(
  "src/work/nodes.ts",
  ["test/work/nodes.test.ts"],
  [
    {
      name: "A farewell counts though its node has spoken since",
      find: "|| worker.link.seq !== seq) return;",
      replace: "|| worker.link.seq < seq) return;",
    },
    {
      name: "What a node that stops in order has not taken waits for it",
      find: 'if (run.phase === "assigned" || !run.known) {',
      replace: 'if (run.phase === "assigned") {',
    },
    {
      file: "src/work/node-choice.ts",
      name: "A node that has said that it stops is given more",
      find: "if (link?.hasLeft === true) return false;",
      replace: "if (link?.hasLeft === true && lastSeen < 0) return false;",
    },
  ],
);

const MEMBER = planted(
  "src/work-service/elsewhere/member.ts",
  ["test/work-service/member.test.ts"],
  [
    {
      name: "A copy of an assignment from another day is taken",
      find: "if (knows.instance !== this.#instance || !this.#isRecent(knows.seq)) return;",
      replace: "if (knows.seq < 0 && !this.#isRecent(knows.seq)) return;",
    },
    {
      name: "A node that stops in order says nothing",
      find: "if (canSay) await",
      replace: "if (!canSay) await",
    },
    {
      name: "A node without a worker calls itself ready",
      find: "hasWorker: worker !== undefined,",
      replace: "hasWorker: true,",
    },
  ],
);

export const HOST_MUTANTS: readonly Mutant[] = [...HISTORIES, ...FAREWELLS, ...MEMBER];
