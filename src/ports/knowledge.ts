import { type Known, NOTHING_KNOWN } from "../core/analyzer/known.ts";
import type { WorkloadAsk } from "../core/model/workload.ts";

/** Reads what the files of a model say of its memory. */
export interface ModelFiles {
  /** Never rejects; a path that is not read is answered with why, in words that tell nothing of what lies there. */
  read(path: string): Promise<NonNullable<Known["file"]>>;
}

export interface KnowledgeAsk extends WorkloadAsk {
  readonly serviceName: string | null;
}

/** What the graph service says of a workflow. */
export interface Workflow {
  readonly isKnown: boolean;
  /** Ids of the workflows that it depends on. */
  readonly dependencies: readonly string[];
}

/** What is known of workloads beside what they say: their files, what was seen of their like, what advisors say. */
export interface Knowledge {
  /**
   * Never rejects. {@link NOTHING_KNOWN} itself when nothing is known. A promise only where something is waited for: most
   * asks name no file, and most hosts have no advisor.
   *
   * @param waitMs how long an advisor may be waited for; 0: only what it has said before.
   */
  of(ask: KnowledgeAsk, waitMs: number): Known | Promise<Known>;
  /** `null`: nobody is asked about workflows, or no answer came in time. */
  workflow(id: string, waitMs: number): Promise<Workflow | null>;
}

/** Of a host without any of them. */
export const NO_KNOWLEDGE: Knowledge = {
  of: () => NOTHING_KNOWN,
  workflow: () => Promise.resolve(null),
};
