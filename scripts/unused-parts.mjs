// Parts of dependencies that nothing here calls, and that would be loaded with what is called: left out of what is built.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** A module's path below node_modules/, and what stands in its place. */
const INSTEAD = {
  // Its router is all that is used: see src/http/exchange/server.ts.
  "express/index.js": 'exports.Router = require("router");',
  // Messages in other languages.
  "zod/v4/locales/index.js": 'export { default as en } from "./en.js";',
  // The router's, for those who look for a fault in the router.
  "debug/src/index.js": "module.exports = () => () => undefined;",
  // Warnings of old calls, for which it asks where each of its users stands in the file.
  "depd/index.js": `module.exports = () => {
  const silent = () => undefined;
  return Object.assign(silent, { function: (old) => old, property: silent });
};`,
  "prom-client/lib/cluster.js": "",
  "prom-client/lib/defaultMetrics.js": "",
  "prom-client/lib/pushgateway.js": "",
  "prom-client/lib/summary.js": "",
};

/** A text of a module, and what stands in its place. */
const CHANGED = {
  // For verbs that are programs of their own: there are none, and every call of gpuo would load it.
  "commander/lib/command.js": ["import childProcess from 'node:child_process';", "const childProcess = undefined;"],
};

/** For esbuild. @type {import("esbuild").Plugin} */
export const withoutUnusedParts = {
  name: "without-unused-parts",
  setup(build) {
    for (const [path, contents] of Object.entries(INSTEAD)) {
      const file = join(root, "node_modules", path);
      // A new version may have moved it.
      readFileSync(file);
      const filter = new RegExp(`${path.replace(/[./]/g, "\\$&")}$`);
      build.onLoad({ filter }, (args) => (args.path === file ? { contents, resolveDir: join(file, "..") } : undefined));
    }
    for (const [path, [text, instead]] of Object.entries(CHANGED)) {
      const file = join(root, "node_modules", path);
      const [before, after, ...more] = readFileSync(file, "utf8").split(text);
      if (after === undefined || more.length > 0) throw new Error(`${path}: expected once: ${text}`);
      const contents = before + instead + after;
      const filter = new RegExp(`${path.replace(/[./]/g, "\\$&")}$`);
      build.onLoad({ filter }, (args) => (args.path === file ? { contents, resolveDir: join(file, "..") } : undefined));
    }
  },
};
