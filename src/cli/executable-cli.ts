// The command line whole, as the single executable carries it.
import { run } from "./cli.ts";

void run(process.argv);
