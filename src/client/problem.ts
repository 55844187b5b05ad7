/** Why an answer is not what was asked for. */
import { ApiProblem, type FieldError, Unreachable } from "./errors.ts";
import type { Reply } from "./transport.ts";

/** The refusal in the body of `reply`; or that what answered is not the daemon. */
export function problemIn(reply: Reply, text: string): ApiProblem | Unreachable {
  let document: { code?: unknown; detail?: unknown; title?: unknown; errors?: unknown; reason?: unknown };
  try {
    document = JSON.parse(text);
  } catch {
    // A proxy speaks so when the daemon behind it is gone.
    if (reply.status >= 502 && reply.status <= 504) return new Unreachable(`a proxy answered ${reply.status}`, false);
    return new ApiProblem(reply.status, "not-the-api", `answered ${reply.status}, and not as the API does`);
  }
  const after = Number(reply.header("retry-after") ?? Number.NaN);
  const words = [document.detail, document.reason, document.title].find((given) => typeof given === "string");
  return new ApiProblem(
    reply.status,
    typeof document.code === "string" ? document.code : "not-the-api",
    typeof words === "string" ? words : `answered ${reply.status}`,
    {
      errors: Array.isArray(document.errors) ? (document.errors as FieldError[]) : [],
      retryAfterMs: Number.isFinite(after) ? after * 1_000 : null,
    },
  );
}
