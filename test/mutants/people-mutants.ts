import { type Mutant, planted } from "./mutant.ts";

const WHY = "test/http/allocations/why.test.ts";

const EXPLAINING = planted(
  "src/http/allocations/why.ts",
  [WHY],
  [
    {
      name: "Everybody is told what led to a decision, and who asked for it",
      find: "return past === null || !admin ? [] :",
      replace: "return past === null ? [] :",
    },
    {
      name: "Who was passed is not said",
      find: "...(passed.length === 0 ? [] :",
      replace: "...(passed.length >= 0 ? [] :",
    },
  ],
);

export const PEOPLE_MUTANTS: readonly Mutant[] = [...EXPLAINING];
