// The daemon, in one file of its own: at a start every file that is loaded is waited for.
import { runWith } from "./program.ts";
import { serve } from "./serve.ts";
import { serveVerb } from "./serve-verb.ts";

void runWith(process.argv, [(program) => serveVerb(program, serve)]);
