/** Bugs of what programs that act on their own are let do. */
import { type Mutant, planted } from "./mutant.ts";

export const MCP_MUTANTS: readonly Mutant[] = planted(
  "src/mcp/allocating.ts",
  ["test/mcp/mcp.test.ts"],
  [
    {
      name: "Who may only look is given the tools that lease",
      file: "src/mcp/server.ts",
      find: "if (mayAllocate) allocatingTools(",
      replace: "allocatingTools(",
    },
    {
      name: "A program releases leases that it did not ask for",
      find: "if (!own.has(id)) throw",
      replace: 'if (id === "") throw',
    },
    {
      name: "What a program leases has no end",
      find: "ttl: ask.ttl ?? DEFAULT_TTL, ",
      replace: "",
    },
    {
      name: "A wait goes on after its client has gone",
      find: "await client.record(id, { waitMs: Math.max(0, Math.ceil(until - performance.now())), signal });",
      replace:
        "await client.record(id, { waitMs: Math.max(0, Math.ceil(until - performance.now())) + 0 * Number(signal.aborted) });",
    },
    {
      name: "Explaining a request takes what it is offered",
      file: "src/mcp/reading.ts",
      find: "client.why(of)",
      replace: "client.record(of).then(() => client.why(of))",
    },
    {
      name: "The processes of others are told to programs by name",
      file: "src/mcp/answers.ts",
      find: "utilization: gpu.utilization,",
      replace: "utilization: gpu.utilization,\n    processes: gpu.processes,",
    },
    {
      name: "A refusal is an answer like any other",
      file: "src/mcp/answers.ts",
      find: "{ isError: true, content:",
      replace: "{ content:",
    },
  ],
).map((mutant) => ({ ...mutant, built: true as const }));
