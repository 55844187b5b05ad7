// Makes one executable file of the program and the Node that it runs on, at the path that is named. What is bundled is dist's sources; the page and the API's page are taken from dist, which must be built.
// `node scripts/executable.mjs FILE [NODE]`: NODE is the binary to put it into, this one by default.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { inject } from "postject";

const root = fileURLToPath(new URL("..", import.meta.url));
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
/** Node looks for it in its own file. */
const FUSE = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";

/** Beside the main file, which only looks. */
const PARTS = {
  "cli.js": "src/cli/executable-cli.ts",
  "store-worker.js": "src/store/store-worker.ts",
  "work/holder.js": "src/worker/holder.ts",
  "work/stand-in.js": "src/worker/executors/stand-in.ts",
  "work/vllm-task.js": "src/worker/executors/vllm-task.ts",
};

const out = resolve(process.argv[2] ?? "gpuo");
const node = process.argv[3] ?? process.execPath;
const folder = mkdtempSync(join(tmpdir(), "gpuo-executable-"));
try {
  await bundle("src/cli/executable.ts", "main.js");
  for (const [name, entry] of Object.entries(PARTS)) await bundle(entry, name);
  const blob = join(folder, "blob");
  const settings = {
    // By its name: the path of what is compiled goes into the executable, which is to be the same when it is made again.
    main: "main.js",
    output: blob,
    disableExperimentalSEAWarning: true,
    // Node opens a debugger on SIGUSR1 otherwise, and some of what this starts is root's.
    execArgv: ["--disable-sigusr1"],
    // Compiled code is not the same bytes when it is made again, and the main file is small.
    useCodeCache: false,
    assets: {
      ...Object.fromEntries(Object.keys(PARTS).map((name) => [name, join(folder, name)])),
      ...filesOf("web"),
      ...filesOf("docs"),
    },
  };
  const settingsFile = join(folder, "settings.json");
  writeFileSync(settingsFile, JSON.stringify(settings));
  execFileSync(process.execPath, ["--experimental-sea-config", settingsFile], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
  });
  mkdirSync(dirname(out), { recursive: true });
  copyFileSync(node, out);
  chmodSync(out, 0o755);
  await inject(out, "NODE_SEA_BLOB", readFileSync(blob), { sentinelFuse: FUSE });
} finally {
  rmSync(folder, { recursive: true });
}

/** An executable's main file is CommonJS and has no files beside it. */
function bundle(entry, name) {
  return build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: join(folder, name),
    bundle: true,
    platform: "node",
    target: "node24",
    format: "cjs",
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none",
    logLevel: "warning",
    banner: { js: 'const __ownUrl = require("node:url").pathToFileURL(process.execPath).href;' },
    define: { __VERSION__: JSON.stringify(version), "import.meta.url": "__ownUrl" },
  });
}

function filesOf(part) {
  const from = join(root, "dist", part);
  return Object.fromEntries(readdirSync(from).map((file) => [`${part}/${file}`, join(from, file)]));
}
