import type { Advisors } from "../advisors/advisors.ts";
import { type Known, NOTHING_KNOWN } from "../core/analyzer/known.ts";
import type { Learning } from "../models/learning.ts";
import type { Clock } from "../platform/clock.ts";
import type { Knowledge, KnowledgeAsk, ModelFiles } from "../ports/knowledge.ts";

/** A disk that answers later than this is not waited for: an allocate must not hang on a network file system. */
const FILES_MS = 2_000;

export interface Sources {
  readonly files: ModelFiles;
  readonly advisors: Pick<Advisors, "advice" | "workflow">;
  readonly learning: Pick<Learning, "suggestionFor">;
  /** Whether what was learned is asked for, as the settings are now. */
  readonly counts: () => boolean;
  readonly clock: Clock;
}

/** Puts together what the daemon's parts know of a workload. */
export function knowledgeOf({ files, advisors, learning, counts, clock }: Sources): Knowledge {
  const fileOf = (path: unknown): Promise<Known["file"]> | null => {
    if (typeof path !== "string" || path.trim() === "") return null;
    return new Promise((resolve) => {
      const cancel = clock.after(FILES_MS, () => resolve({ problem: "its files could not be read in time" }));
      void files.read(path).then((file) => {
        cancel();
        resolve(file);
      });
    });
  };
  const together = (ask: KnowledgeAsk, file: Known["file"], advice: Known["advice"]): Known => {
    const seen = learning.suggestionFor(ask);
    if (file === null && advice === null && seen === null) return NOTHING_KNOWN;
    return { file, advice, observed: seen === null ? null : { ...seen, counts: counts() } };
  };
  return {
    of(ask, waitMs) {
      const file = fileOf(ask.workloadData.model_path);
      const advice = advisors.advice(ask, waitMs);
      if (file === null && advice === null) return together(ask, null, null);
      return Promise.all([file, advice]).then(([found, advised]) => together(ask, found, advised));
    },
    workflow: (id, waitMs) => advisors.workflow(id, waitMs),
  };
}
