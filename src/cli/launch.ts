#!/usr/bin/env node
import { demandNode } from "./node-version.ts";

demandNode("gpu-orchestrator");
const { run } = await import("./cli.ts");
await run(process.argv);
