/** Bugs of what the state keeps of its GPUs, and of the buckets that it keeps them in. */
import { planted } from "./mutant.ts";

const KEPT = "test/core/host/candidates.test.ts";
const INTERPLAY = "test/core/decisions/interplay.test.ts";
const PLACE = "test/core/allocator/topology.test.ts";

export const CANDIDATE_MUTANTS = [
  ...planted(
    "src/core/host/changes.ts",
    [KEPT],
    [
      {
        name: "A bucket does not hear that a GPU in it has changed",
        find: "next.candidates = candidatesAfter(next, changed);",
        replace: "",
      },
      {
        name: "Buckets do not hear that the whole host is cordoned",
        find: "return lookedAtAnew({ ...state, cordon });",
        replace: "return { ...state, cordon };",
      },
      {
        name: "Buckets do not hear of new readings",
        find: "return lookedAtAnew({ ...state, sight });",
        replace: "return { ...state, sight };",
      },
    ],
  ),
  ...planted(
    "src/core/host/candidates.ts",
    ["test/core/allocator/sharing.test.ts"],
    [
      {
        name: "A shared GPU that is busy with nothing on it takes one more lease",
        find: "return !isGhost(reading);",
        replace: "return !isGhost(reading) || true;",
      },
    ],
  ),
  ...planted(
    "src/core/host/candidates.ts",
    [INTERPLAY],
    [
      {
        name: "A bucket does not hear that another MIG instance of its GPU has changed",
        find: "for (const instance of gpus.instancesOf(board.uuid)) concerned.add(instance);",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/core/host/free-gpus.ts",
    [KEPT],
    [
      {
        name: "GPUs are granted by buckets of which every reading is too old",
        find: "const isOld = ({ first }: Bucket) => now > first.freshUntil;",
        replace: "const isOld = ({ first }: Bucket) => now > first.freshUntil && now < 0;",
      },
      {
        name: "GPUs of which one is busier than the other are taken for alike",
        find: "a.utilizationPercent === b.utilizationPercent &&",
        replace: "",
      },
      {
        name: "A GPU that comes back to its bucket stands last there, whatever its UUID",
        find: "members.splice(placeIn(members, candidate.gpu.uuid), 0, candidate);",
        replace: "members.push(candidate);",
      },
    ],
  ),
  ...planted(
    "src/core/host/inventory.ts",
    [KEPT],
    [
      {
        name: "An inventory forgets how many GPUs there are of a model",
        find: "count: (models.get(key)?.count ?? 0) + 1",
        replace: "count: 1",
      },
    ],
  ),
  ...planted(
    "src/core/allocator/best-set.ts",
    [PLACE],
    [
      {
        name: "A GPU counts itself among those that it is torn from",
        find: "let ofItsKind = -1;",
        replace: "let ofItsKind = 0;",
      },
    ],
  ),
];
