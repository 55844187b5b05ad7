/** Before each file of tests: properties draw from the run's seed. A failure prints it. */
import fc from "fast-check";
import { SEED } from "./seed.ts";

fc.configureGlobal({ seed: SEED });
