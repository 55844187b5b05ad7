// Where the single executable begins. It brings its own Node and all code. What looks is compiled ahead, as people look
// often; each other part is a file that it carries, of which only the one that is needed is read.
import { createRequire } from "node:module";
import { Script } from "node:vm";
import { carried } from "../platform/executable.ts";
import { lookingVerbs } from "./looking-verbs.ts";
import { isLook } from "./looks.ts";
import { runWith } from "./program.ts";

/** What starts with this word is a program of the worker's: `work:holder`. */
const WORK = "work:";

const first = process.argv[2] ?? "";
if (isLook(first)) void runWith(process.argv, [(program) => lookingVerbs(program, first)]);
else if (first.startsWith(WORK)) {
  process.argv.splice(1, 2, first);
  start(`work/${first.slice(WORK.length)}.js`);
} else start("cli.js");

/** Runs a part that was bundled as CommonJS, and imports nothing but what Node has. */
function start(name: string): void {
  const code = carried(name);
  if (code === null) throw new Error(`${name} is not in this executable`);
  const script = new Script(`(function (require, module, exports) {${code.toString()}\n})`, { filename: name });
  const module = { exports: {} };
  script.runInThisContext()(createRequire(process.execPath), module, module.exports);
}
