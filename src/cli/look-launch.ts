// The verbs that look, in one file of their own: people look often, and every file that is loaded is waited for.
import { lookingVerbs } from "./looking-verbs.ts";
import { runWith } from "./program.ts";

void runWith(process.argv, [(program) => lookingVerbs(program, process.argv[2])]);
