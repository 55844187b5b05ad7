/** Bugs of MIG: how instances are named, what they share, and what is granted beside what. */
import { type Mutant, planted } from "./mutant.ts";

const CORE = "test/core/allocator/mig.test.ts";
const PROPERTIES = "test/core/allocator/mig-properties.test.ts";
const JOIN = "test/monitor/nvidia-smi/instances.test.ts";

export const MIG_MUTANTS: readonly Mutant[] = [
  ...planted(
    "src/core/host/mig.ts",
    [CORE],
    [
      {
        name: "Several GPUs may be instances although nobody named a profile",
        file: "src/core/model/mig.ts",
        find: "if (migProfile === null) return mig === null || requirement.gpus === 1;",
        replace: "if (migProfile === null) return true;",
      },
      {
        name: "An instance whose name is in doubt counts as gone",
        file: "src/core/decisions/observe/instances.ts",
        find: "doubted: ofThose(nameless.map(({ uuid }) => uuid)),",
        replace: "doubted: [],",
      },
      {
        name: "Instances of a lost GPU are taken for destroyed",
        find: "if (absence === undefined || (parent?.reading.migMode ?? null) === null) return null;",
        replace: "if (absence === undefined) return null;",
      },
      {
        name: "A process without ids counts for no instance",
        file: "src/core/decisions/observe/instances.ts",
        find: "(process.gpuInstanceId ?? gpuInstanceId) === gpuInstanceId &&",
        replace: "process.gpuInstanceId === gpuInstanceId &&",
      },
      {
        name: "While one compute instance is being reclaimed the others get its memory",
        find: 'return sharersOf(gpu, state).find(({ hold }) => hold.kind === "reclaiming") ?? null;',
        replace: "return null;",
      },
      {
        name: "A GPU that is cut counts whole for what could ever fit",
        find: 'return mode === null ? gpus.instancesOf(uuid).length > 0 : mode === "Enabled";',
        replace: "return false;",
      },
      {
        name: "An instance is granted beside a lease of its whole GPU",
        find: 'if (parent !== undefined && parent.hold.kind !== "free") return parent;',
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/core/allocator/fit.ts",
    [PROPERTIES, CORE],
    [
      {
        name: "Compute instances of one grant have all of their memory each",
        find: "    if (room < 0) return false;\n",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/core/queue/schedule.ts",
    [PROPERTIES, CORE],
    [
      {
        name: "What one request of a turn was promised is promised to the next once more",
        find: "this.#free = withRoomIn(this.state, this.#free.without(chosen.map(({ gpu }) => gpu.uuid)));",
        replace: "this.#free = this.#free.without(chosen.map(({ gpu }) => gpu.uuid));",
      },
    ],
  ),
  ...planted(
    "src/core/queue/reservation.ts",
    [CORE],
    [
      {
        name: "Memory that is held for the head is taken through another compute instance",
        find: "...sharersOf(gpu, state).map(({ uuid }) => uuid)",
        replace: "",
      },
    ],
  ),
  ...planted(
    "src/core/host/candidates.ts",
    [CORE],
    [
      {
        name: "A compute instance is offered memory that the others' processes use",
        find: "const used = (memoryInUseMib(reading) as number) + (reading.othersUseMib ?? 0);",
        replace: "const used = memoryInUseMib(reading) as number;",
      },
    ],
  ),
  ...planted(
    "src/monitor/nvidia-smi/known-instances.ts",
    [JOIN],
    [
      {
        name: "Instances are joined by their id in place of their number",
        find: "...names?.get(instance.index)",
        replace: "...names?.get(instance.gpuInstanceId)",
      },
      {
        name: "UUIDs are kept although the GPU was cut anew",
        find: "return known?.cut === cutOf(gpu) ? known.names : null;",
        replace: "return known?.names ?? null;",
      },
      {
        name: "An old UUID counts whatever ids it has",
        find: "if (ids !== null && (ids.gpuInstanceId !== gpuInstanceId || ids.computeInstanceId !== computeInstanceId)) {",
        replace: "if (ids !== null && computeInstanceId < 0 && gpuInstanceId < 0) {",
      },
    ],
  ),
];
