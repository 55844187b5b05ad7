#!/usr/bin/env node
import { createRequire } from "node:module";
import { demandNode } from "./node-version.ts";

/** Those of looking-verbs.ts; a test holds both against each other. */
const LOOKS = ["status", "queue", "leases", "top", "history", "why", "show"];

demandNode("gpu-orchestrator");
// CommonJS, made by the build of look-launch.ts and serve-launch.ts: it starts sooner than modules.
const verb = process.argv[2] ?? "";
const own = LOOKS.includes(verb) ? "./look.cjs" : verb === "serve" ? "./serve.cjs" : null;
if (own !== null) createRequire(import.meta.url)(own);
else {
  const { run } = await import("./cli.ts");
  await run(process.argv);
}
