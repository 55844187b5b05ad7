import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dirname, "../../../shared/fixtures/cases");

/** Inputs of public bug reports, kept beside the repository. Without them the same is tested on inputs of our own. */
export const hasCases = existsSync(FOLDER);

export const casePath = (name: string) => join(FOLDER, name);

export const readCase = (name: string) => readFileSync(casePath(name), "utf8");
