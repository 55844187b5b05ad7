#!/usr/bin/env node
import { createRequire } from "node:module";
import { demandNode } from "./node-version.ts";

/** Those of looking-verbs.ts; a test holds both against each other. */
const LOOKS = ["status", "queue", "leases", "top", "history", "why", "show"];

demandNode("gpu-orchestrator");
// CommonJS, made by the build of look-launch.ts: it starts sooner than modules.
if (LOOKS.includes(process.argv[2] ?? "")) createRequire(import.meta.url)("./look.cjs");
else {
  const { run } = await import("./cli.ts");
  await run(process.argv);
}
