import type { Advisors } from "../advisors/advisors.ts";
import { type Known, NOTHING_KNOWN } from "../core/analyzer/known.ts";
import type { Clock } from "../platform/clock.ts";
import type { Knowledge, ModelFiles } from "../ports/knowledge.ts";

/** A disk that answers later than this is not waited for: an allocate must not hang on a network file system. */
const FILES_MS = 2_000;

export interface Sources {
  readonly files: ModelFiles;
  readonly advisors: Pick<Advisors, "advice" | "workflow">;
  readonly clock: Clock;
}

/** Puts together what the daemon's parts know of a workload. */
export function knowledgeOf({ files, advisors, clock }: Sources): Knowledge {
  const fileOf = (path: unknown): Promise<Known["file"]> => {
    if (typeof path !== "string" || path.trim() === "") return Promise.resolve(null);
    return new Promise((resolve) => {
      const cancel = clock.after(FILES_MS, () => resolve({ problem: "its files could not be read in time" }));
      void files.read(path).then((file) => {
        cancel();
        resolve(file);
      });
    });
  };
  return {
    async of(ask, waitMs) {
      const [file, advice] = await Promise.all([fileOf(ask.workloadData.model_path), advisors.advice(ask, waitMs)]);
      return file === null && advice === null ? NOTHING_KNOWN : { ...NOTHING_KNOWN, file, advice };
    },
    workflow: (id, waitMs) => advisors.workflow(id, waitMs),
  };
}
