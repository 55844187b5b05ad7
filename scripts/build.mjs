// Bundles the program into dist/: the program, the thread that it starts for the database, shared chunks for what is loaded lazily, and the offline API page.
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

rmSync(dist, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: { "gpu-orchestrator": "src/cli/launch.ts", "store-worker": "src/store/store-worker.ts" },
  outdir: "dist",
  bundle: true,
  splitting: true,
  platform: "node",
  target: "node24",
  format: "esm",
  // The licences of what is bundled go along.
  legalComments: "linked",
  sourcemap: "linked",
  logLevel: "warning",
  define: { __VERSION__: JSON.stringify(version) },
  banner: {
    // CommonJS dependencies inside an ES module bundle still call require().
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
  },
});

const swagger = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));
mkdirSync(join(dist, "docs"), { recursive: true });
for (const file of ["swagger-ui.css", "swagger-ui-bundle.js"]) cpSync(join(swagger, file), join(dist, "docs", file));
chmodSync(join(dist, "gpu-orchestrator.js"), 0o755);
