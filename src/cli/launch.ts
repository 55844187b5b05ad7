#!/usr/bin/env node
// Kept small and old-fashioned on purpose: an old Node must get as far as the check below.
import module from "node:module";

const OLDEST_NODE = 24;

if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
  console.error(`gpu-orchestrator needs Node ${OLDEST_NODE} or newer; this is ${process.version}`);
  process.exit(1);
}
module.enableCompileCache();
const { run } = await import("./cli.ts");
await run(process.argv);
