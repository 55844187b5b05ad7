/** What a workload says to vLLM by `engine.config`, as far as the controller reads it itself. Pure. */
import type { Breach } from "./breach.ts";
import type { WorkloadSpec } from "./workload.ts";

type Config = NonNullable<NonNullable<WorkloadSpec["engine"]>["config"]>;

/** vLLM's own suffixes: small ones are powers of 1000, large ones of 1024. */
const FACTORS: Readonly<Record<string, number>> = {
  ...{ "": 1, k: 1_000, m: 1_000 ** 2, g: 1_000 ** 3, t: 1_000 ** 4 },
  ...{ K: 1_024, M: 1_024 ** 2, G: 1_024 ** 3, T: 1_024 ** 4 },
};
/** With these vLLM chooses the length itself. */
const CHOSEN: ReadonlySet<unknown> = new Set([-1, "-1", "auto"]);
/** What is said elsewhere, and where: probes and Services go there, and the plan is that model's. */
const SAID_ELSEWHERE = { model: "engine.model", host: "the controller", port: "the controller" } as const;

/** In tokens; `null`: nothing is stated, or that vLLM is to choose. */
export function modelLengthOf({ max_model_len: given }: Config): number | null {
  if (typeof given === "number") return Number.isInteger(given) && given > 0 ? given : null;
  const [, digits, suffix = ""] = (typeof given === "string" && /^(\d{1,15})([kmgtKMGT]?)$/.exec(given)) || [];
  const length = digits === undefined ? 0 : Number(digits) * (FACTORS[suffix] as number);
  return length > 0 ? length : null;
}

/** A part of each GPU's memory; `null`: nothing is stated. */
export function memoryPartOf({ gpu_memory_utilization: given }: Config): number | null {
  return given === undefined || given === null || given === "" ? null : Number(given);
}

/** An engine that was told this would end as soon as it began, or serve where nobody asks. */
export function configBreaches(config: Config): Breach[] {
  const found: Breach[] = [];
  const at = (name: string, message: string) => found.push({ path: `spec.engine.config.${name}`, message });
  const part = memoryPartOf(config);
  if (part !== null && !(part > 0 && part <= 1)) at("gpu_memory_utilization", "expected more than 0 and at most 1");
  const { max_model_len: length = null } = config;
  if (length !== null && modelLengthOf(config) === null && !CHOSEN.has(length)) {
    at("max_model_len", "expected tokens such as 8192 or 8k, or auto");
  }
  for (const [name, by] of Object.entries(SAID_ELSEWHERE)) {
    if (config[name] !== undefined && config[name] !== null) at(name, `it is said by ${by}`);
  }
  return found;
}
