import { analyze } from "../../../src/core/analyzer/analyze.ts";
import { WORKLOAD_DEFAULTS } from "../../../src/core/analyzer/defaults.ts";
import type { JsonObject } from "../../../src/core/base/json.ts";
import type { Analysis, WorkloadAsk, WorkloadType } from "../../../src/core/model/workload.ts";

/** An ask with nothing stated but what `stated` holds. */
export function ask(type: WorkloadType, data: JsonObject = {}, stated: Partial<WorkloadAsk> = {}): WorkloadAsk {
  return {
    workloadType: type,
    workloadData: data,
    requiredGpus: null,
    minMemoryMib: null,
    maxUtilizationPercent: null,
    priority: null,
    ...stated,
  };
}

export function analyzed(type: WorkloadType, data: JsonObject = {}, stated: Partial<WorkloadAsk> = {}): Analysis {
  return analyze(ask(type, data, stated), WORKLOAD_DEFAULTS);
}
