/** What a deployment has of CPU and memory that says nothing of them. */
import type { Problem } from "../../config/problems.ts";
import { parseCpuMillis, parseMemoryBytes } from "../../work/quantities.ts";
import type { ControllerFile } from "./schema.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export interface DeploymentDefaults {
  readonly cpu: string;
  readonly memory: string;
}

/** The second seed's limit of CPU, of which a class guarantees a part, and what it reserves of memory. */
const DEFAULT_CPU = "8";
const DEFAULT_MEMORY = "32Gi";

/**
 * Of a deployment that does not say: the second seed's, unless the environment or the first seed's file say otherwise, of
 * which `operator` goes over `resourceManager`.
 */
export function defaultsOf(
  { operator, resourceManager }: ControllerFile,
  env: Environment,
  problems: Problem[],
): DeploymentDefaults {
  const cores = (millis: number | undefined) => (millis === undefined ? undefined : `${millis}m`);
  const bytes = (amount: number | undefined) => (amount === undefined ? undefined : String(amount));
  const stated = (name: string, parse: (given: unknown) => number | null, such: string): string | undefined => {
    const { [name]: given } = env;
    if (given === undefined || parse(given) !== null) return given;
    problems.push({ origin: { kind: "environment", name }, path: "", message: `expected ${such}`, hint: null });
    return undefined;
  };
  const cpu = ["DEFAULT_CPU_LIMIT", "DEFAULT_CPU_REQUEST"].map((name) => stated(name, parseCpuMillis, "cores"));
  const memory = ["DEFAULT_MEMORY_LIMIT", "DEFAULT_MEMORY_REQUEST"].map((name) =>
    stated(name, parseMemoryBytes, "bytes such as 32Gi"),
  );
  return {
    cpu:
      cpu[0] ??
      cpu[1] ??
      cores(operator?.defaultCPULimit ?? operator?.defaultCPURequest ?? resourceManager?.defaultCPURequest) ??
      DEFAULT_CPU,
    memory:
      memory[0] ??
      memory[1] ??
      bytes(operator?.defaultMemoryLimit ?? operator?.defaultMemoryRequest ?? resourceManager?.defaultMemoryRequest) ??
      DEFAULT_MEMORY,
  };
}
