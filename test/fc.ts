/** fast-check, drawing from the run's seed. A failure prints it. */
import fc from "fast-check";
import { SEED } from "./seed.ts";

fc.configureGlobal({ seed: SEED });

export { default } from "fast-check";
