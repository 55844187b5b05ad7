import { analyze, type Setting } from "../../../src/core/analyzer/analyze.ts";
import { WORKLOAD_DEFAULTS } from "../../../src/core/analyzer/defaults.ts";
import { type Known, NOTHING_KNOWN } from "../../../src/core/analyzer/known.ts";
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

/** On a host of which nothing is known unless `setting` says it. */
export function analyzed(
  type: WorkloadType,
  data: JsonObject = {},
  stated: Partial<WorkloadAsk> = {},
  setting: Partial<Setting> = {},
  known: Partial<Known> = {},
): Analysis {
  const all = { defaults: WORKLOAD_DEFAULTS, models: {}, cards: () => [], ...setting };
  return analyze(ask(type, data, stated), all, { ...NOTHING_KNOWN, ...known });
}
