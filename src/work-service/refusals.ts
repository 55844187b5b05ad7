/** What the work rooms refuse, as HTTP has it. A code without an entry does not compile. */
import type { ProblemKind, Refusals } from "../http/exchange/problems.ts";
import { WorkError, type WorkErrorCode } from "../work/errors.ts";

export const WORK_PROBLEMS: Readonly<Record<WorkErrorCode, ProblemKind>> = {
  "work-disabled": { status: 503, title: "This daemon runs no work" },
  "work-full": { status: 503, title: "As much work as may be is open", retryAfterSeconds: 30 },
  "malformed-yaml": { status: 400, title: "The document is not YAML" },
  "document-incomplete": { status: 400, title: "A field of the document is missing" },
  "document-invalid": { status: 422, title: "The document is not valid" },
  "not-allowed": { status: 403, title: "The host has not opened this" },
  "workload-not-found": { status: 404, title: "No such workload" },
  "workload-exists": { status: 409, title: "There is a workload of this id" },
  "task-not-found": { status: 404, title: "No such task" },
  "task-ended": { status: 409, title: "The task has ended" },
  "run-not-found": { status: 404, title: "No such run" },
  "run-ended": { status: 409, title: "The run has ended" },
  "run-not-adoptable": { status: 409, title: "The run cannot be adopted" },
  "worker-not-found": { status: 404, title: "No such worker" },
  "result-not-found": { status: 404, title: "There is no such result" },
  "worker-superseded": { status: 409, title: "A newer worker serves this node" },
  "not-owner": { status: 403, title: "Belongs to another principal" },
  "node-unreachable": { status: 503, title: "The node that has it cannot be asked", retryAfterSeconds: 10 },
  "work-storage-unavailable": { status: 503, title: "The change could not be stored", retryAfterSeconds: 5 },
};

export const WORK_REFUSALS: Refusals = {
  refusalIn: (error) => (error instanceof WorkError ? error : null),
  kinds: WORK_PROBLEMS,
};
