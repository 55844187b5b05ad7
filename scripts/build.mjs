// Bundles the program into dist/: the program, the thread that it starts for the database, shared chunks for what is loaded lazily, and the offline API page.
import { createHash } from "node:crypto";
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { withoutUnusedParts } from "./unused-parts.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** The client of Redis is a sixth of the daemon's code, and few need it. */
const redisApart = {
  name: "redis-apart",
  setup(build) {
    build.onResolve({ filter: /^@redis\/client$/ }, ({ kind }) =>
      kind === "entry-point" ? undefined : { path: "./redis.cjs", external: true },
    );
  },
};

rmSync(dist, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: {
    "gpu-orchestrator": "src/cli/launch.ts",
    "llm-orchestrator-simple": "src/cli/simple-launch.ts",
  },
  outdir: "dist",
  bundle: true,
  splitting: true,
  platform: "node",
  target: "node24",
  format: "esm",
  // The licences of what is bundled go along.
  legalComments: "linked",
  sourcemap: "linked",
  plugins: [withoutUnusedParts],
  logLevel: "warning",
  define: { __VERSION__: JSON.stringify(version) },
  banner: {
    // CommonJS dependencies inside an ES module bundle still call require().
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
});

// What is started often, or whose start is waited for. CommonJS: importing node:http as a module loads undici too, for its WebSocket.
await build({
  absWorkingDir: root,
  entryPoints: {
    look: "src/cli/look-launch.ts",
    serve: "src/cli/serve-launch.ts",
    "store-worker": "src/store/store-worker.ts",
    redis: "@redis/client",
  },
  outdir: "dist",
  outExtension: { ".js": ".cjs" },
  plugins: [withoutUnusedParts, redisApart],
  bundle: true,
  platform: "node",
  target: "node24",
  format: "cjs",
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "linked",
  logLevel: "warning",
  define: { __VERSION__: JSON.stringify(version), "import.meta.url": "__file" },
  banner: { js: 'const __file = require("node:url").pathToFileURL(__filename).href;' },
});

// One letter beyond ASCII, and Node keeps two bytes for each letter of a file and encodes all of it at each start.
for (const name of ["look", "serve", "store-worker"]) {
  const strange = /.{0,40}[^\p{ASCII}].{0,40}/u.exec(readFileSync(join(dist, `${name}.cjs`), "utf8"));
  if (strange !== null) throw new Error(`${name}.cjs: not ASCII: ${strange[0]}`);
}

await buildPage();

// Programs that the worker starts beside itself, each in one small file: there is a holder for every run.
await build({
  absWorkingDir: root,
  entryPoints: {
    holder: "src/worker/holder.ts",
    "stand-in": "src/worker/executors/stand-in.ts",
    "vllm-task": "src/worker/executors/vllm-task.ts",
  },
  outdir: "dist/work",
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  minify: true,
  logLevel: "warning",
});

cpSync(join(root, "executors"), join(dist, "executors"), { recursive: true });

// The page at /docs: a script of ours that starts Swagger UI.
await build({
  absWorkingDir: root,
  entryPoints: { start: "src/web/docs/start.ts" },
  outdir: "dist/docs",
  bundle: true,
  minify: true,
  platform: "browser",
  target: ["chrome123", "firefox120", "safari17.5"],
  format: "iife",
  logLevel: "warning",
});
const swagger = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));
mkdirSync(join(dist, "docs"), { recursive: true });
for (const file of ["swagger-ui.css", "swagger-ui-bundle.js"]) cpSync(join(swagger, file), join(dist, "docs", file));
for (const name of ["gpu-orchestrator", "llm-orchestrator-simple"]) chmodSync(join(dist, `${name}.js`), 0o755);

/** The page at `/`: a script, a style sheet, an icon, and copies of each as small as they get. */
async function buildPage() {
  const web = join(dist, "web");
  await build({
    absWorkingDir: root,
    entryPoints: { main: "src/web/main.tsx", style: "src/web/main.css" },
    outdir: web,
    bundle: true,
    minify: true,
    platform: "browser",
    target: ["chrome123", "firefox120", "safari17.5"],
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "linked",
    logLevel: "warning",
  });
  const files = {
    "main.js": readFileSync(join(web, "main.js")),
    "main.css": readFileSync(join(web, "style.css")),
    "icon.svg": readFileSync(join(root, "src/web/icon.svg")),
  };
  rmSync(join(web, "style.css"));
  let page = readFileSync(join(root, "src/web/index.html"), "utf8");
  for (const [name, content] of Object.entries(files)) {
    const version = createHash("sha256").update(content).digest("hex").slice(0, 16);
    page = page.replaceAll(`"/page/${name}"`, `"/page/${name}?${version}"`);
  }
  for (const [name, content] of Object.entries({ ...files, "index.html": Buffer.from(page) })) {
    writeFileSync(join(web, name), content);
    writeFileSync(join(web, `${name}.gz`), gzipSync(content, { level: 9 }));
    const best = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
    writeFileSync(join(web, `${name}.br`), brotliCompressSync(content, best));
  }
}
