/** Bugs of the controller under hostile hands: servers that are ill, objects that are somebody else's, names that cannot be. */
import { type Mutant, planted } from "./mutant.ts";

const WATCH = "test/controller/watch.test.ts";

export const CONTROLLER_HOSTILE_MUTANTS: readonly Mutant[] = [
  ...planted(
    "src/controller/kubernetes/watch.ts",
    [WATCH],
    [
      {
        name: "What a write has answered goes over what the watch has seen since",
        find: 'if (isLater(this.#version ?? "", object.metadata.resourceVersion)) return;',
        replace: "",
      },
      {
        name: "What is told late of a predecessor counts for its successor",
        find: "if (!this.#isKnownLater(object)) {",
        replace: 'if (type === "DELETED" || !this.#isKnownLater(object)) {',
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/connection.ts",
    [WATCH],
    [
      {
        name: "A server that asks for no pause is asked without end",
        find: "seconds > 0 ? Math.min",
        replace: "seconds >= 0 ? Math.min",
      },
    ],
  ),
];
