import type { ApiProblem } from "../../client/errors.ts";

/** Asked again, it would be refused again. */
export function isRefusal({ status }: ApiProblem): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}
