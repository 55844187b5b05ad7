/** Bugs of the rooms around the decisions. */
import { type Mutant, planted } from "./mutant.ts";

export const ROOM_MUTANTS: readonly Mutant[] = [];
