#!/usr/bin/env node
import { createRequire } from "node:module";
import { isLook } from "./looks.ts";
import { demandNode } from "./node-version.ts";

demandNode("gpu-orchestrator");
// CommonJS, made by the build of look-launch.ts and serve-launch.ts: it starts sooner than modules.
const verb = process.argv[2] ?? "";
const own = isLook(verb) ? "./look.cjs" : verb === "serve" ? "./serve.cjs" : null;
if (own !== null) createRequire(import.meta.url)(own);
else {
  const { run } = await import("./cli.ts");
  await run(process.argv);
}
