/** Which exit code says what: those of sysexits.h, but for a refusal, which is 1 as everywhere. */
import { ApiProblem, NotGranted, Unproven, Unreachable } from "../client/errors.ts";
import { visible } from "../platform/printable.ts";

export const EXIT = {
  refused: 1,
  usage: 64,
  data: 65,
  noInput: 66,
  unreachable: 69,
  tryLater: 75,
  notAllowed: 77,
  settings: 78,
  /** Of `gpuo run`, as of env(1) and timeout(1): what its command did not do. */
  timedOut: 124,
  ownFailure: 125,
  cannotRun: 126,
  notFound: 127,
  /** Beside the signal's number. */
  signal: 128,
} as const;

/** A call that makes no sense; said as it is. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The client's own settings are wrong. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
}

/** Nothing by that name; said as it is. */
export class NoSuchError extends Error {
  override readonly name = "NoSuchError";
}

/** Nobody answers where a controller is looked for. */
export class NoController extends Unreachable {}

export function exitCodeOf(error: unknown): number {
  if (error instanceof Unreachable) return EXIT.unreachable;
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof SettingsError) return EXIT.settings;
  if (error instanceof NotGranted) return error.reason === "timed_out" ? EXIT.tryLater : EXIT.refused;
  if (!(error instanceof ApiProblem)) return EXIT.refused;
  if (error.status === 401 || error.status === 403) return EXIT.notAllowed;
  // Nothing that waiting mends.
  if (error.code === "work-disabled") return EXIT.refused;
  if (error.status === 429 || error.status === 503 || error.status === 408) return EXIT.tryLater;
  return EXIT.refused;
}

/** What went wrong, in lines that are safe to print. */
export function wordsOf(error: unknown): string[] {
  if (error instanceof ApiProblem) {
    const fields = error.errors.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`));
    const lines = fields.length > 0 ? fields : [error.message];
    return [...lines.map(visible), ...(error instanceof Unproven ? [UNPROVEN] : hint(error))];
  }
  if (error instanceof NoController) {
    return [
      visible(error.message),
      "is the controller running? --url or GPU_ORCHESTRATOR_CONTROLLER_URL says where it is",
    ];
  }
  if (error instanceof Unreachable) {
    return [
      visible(error.message),
      "is the daemon running? `gpuo doctor` looks; --url or GPU_ORCHESTRATOR_URL says where it is",
    ];
  }
  return [visible(error instanceof Error ? error.message : String(error))];
}

/** Of a file that somebody has named. */
export function notRead(file: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return `${file}: ${code === "ENOENT" ? "there is no such file" : message}`;
}

const UNPROVEN =
  "callers must see the socket at the daemon's own path, and be users whom its host knows (docs/deployment.md); or give a key: --key-file FILE";

function hint({ code, retryAfterMs }: ApiProblem): string[] {
  if (code === "work-disabled") return ["its settings say whether it does: docs/work.md"];
  if (code === "unauthenticated") return ["give a key: --key-file FILE, or GPU_ORCHESTRATOR_API_KEY_FILE"];
  return retryAfterMs === null ? [] : [`try again in ${Math.ceil(retryAfterMs / 1_000)} s`];
}
