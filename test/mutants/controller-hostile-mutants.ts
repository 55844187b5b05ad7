/** Bugs of the controller under hostile hands: servers that are ill, objects that are somebody else's, names that cannot be. */
import { type Mutant, planted } from "./mutant.ts";

const HOSTILE = "test/controller/hostile.test.ts";
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
    "src/controller/kubernetes/children.ts",
    [HOSTILE],
    [
      {
        name: "What is somebody else's under a child's name is taken over",
        find: "if (there === null || isMadeFor(there, workload)) return;",
        replace: "if (there === null || there.metadata.uid !== workload) return;",
      },
      {
        name: "What is somebody else's under a child's name is deleted",
        find: "|| isOthers(live, workload)) return;",
        replace: ") return;",
      },
      {
        name: "What is somebody else's under a child's name holds up a workload's end",
        find: "there !== undefined && !isOthers(there, name) ?",
        replace: "there !== undefined ?",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/pods.ts",
    [HOSTILE],
    [
      {
        name: "A Job's pod with a workload's labels is its replica",
        find: "return maker === undefined || MAKERS.has(maker.kind) ?",
        replace: "return maker === undefined || maker.kind !== name ?",
      },
      {
        name: "A pod without a revision is a replica",
        find: "name === undefined || labels?.[LABEL.revision] === undefined) return null;",
        replace: "name === undefined) return null;",
      },
    ],
  ),
  ...planted(
    "src/controller/kubernetes/objects.ts",
    [HOSTILE],
    [
      {
        name: "A workload that somebody else's finalizer keeps is let go at each look",
        find: "if (!finalizers.includes(FINALIZER)) return;",
        replace: "",
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
