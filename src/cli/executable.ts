// Where the single executable begins: it brings its own Node, and all code in one file.
import { run } from "./cli.ts";

void run(process.argv);
