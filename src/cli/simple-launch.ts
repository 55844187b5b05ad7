#!/usr/bin/env node
import { demandNode } from "./node-version.ts";

demandNode("llm-orchestrator-simple");
const { runSimple } = await import("./simple.ts");
await runSimple(process.argv);
