import { type Mutant, planted } from "./mutant.ts";

const REPLAY = "test/store/replay.test.ts";

const CAPTURE = planted(
  "src/core/replay/capture.ts",
  [REPLAY],
  [
    {
      name: "What was seen and set since the last keyframe is not captured",
      find: "changed === undefined ? {} : { changed }",
      replace: "{}",
    },
    {
      name: "When a waiting client was last seen is not captured",
      find: "...(seen.length === 0 ? {} : { seen }),",
      replace: "",
    },
    {
      name: "The settings of a turn made again are those of its keyframe",
      file: "src/core/replay/recall.ts",
      find: "this.#surroundings = withDifference(this.#surroundings, changed) as JsonObject;",
      replace: "void withDifference;",
    },
  ],
);

const PLAIN = planted(
  "src/core/replay/plain.ts",
  ["test/core/replay/plain.test.ts"],
  [
    {
      name: "A list with something in it that JSON does not have is captured as it stands",
      find: "if (Array.isArray(value)) return value.map(toPlain);",
      replace: "if (Array.isArray(value)) return value;",
    },
    {
      name: "What is captured has whatever is plain in it copied",
      find: "return isPlain(value) ? value : madePlain(value);",
      replace: "return madePlain(value);",
    },
  ],
);

const PRUNING = planted(
  "src/store/statements.ts",
  [REPLAY],
  [
    {
      name: "Only the latest snapshot is kept, so that nothing before it can be told of",
      find: "WHERE total > ? AND seq < latest",
      replace: "WHERE total > ? - 1e12 AND seq < latest",
    },
  ],
);

const COMPARISON = planted(
  "src/store/replay.ts",
  [REPLAY],
  [
    {
      name: "A turn that comes out otherwise passes for the same",
      find: "const isSame = failure === null && textOf(decided) === textOf(recorded);",
      replace: "const isSame = failure === null && decided.length === recorded.length;",
    },
    {
      name: "A turn passes for another one when only the order of its fields differs",
      find: "  return canonicalJson(events",
      replace: "  return JSON.stringify(events",
    },
    {
      name: "A turn passes for another one when only the sentence of a quarantine differs",
      find: '{ ...event, reason: "" }',
      replace: "event",
    },
  ],
);

export const REPLAY_MUTANTS: readonly Mutant[] = [...CAPTURE, ...PLAIN, ...PRUNING, ...COMPARISON];
