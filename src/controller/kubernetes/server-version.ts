/** What follows from the version of a server: rules in CEL came with 1.25, and an older one is served all the same. */
import type { Logger } from "../../platform/logger.ts";
import { type KubeConnection, KubeError } from "./connection.ts";
import { sleep } from "./watch.ts";

const AGAIN_MS = 30_000;
/** The first with rules in CEL; scheduling gates came with 1.27. */
const LEAST_MINOR = 25;

interface Version {
  readonly major?: string;
  readonly minor?: string;
  readonly gitVersion?: string;
}

/**
 * Whether the server takes CRDs with rules in CEL.
 *
 * @throws Error when it does not say its version.
 */
export async function takesCel(connection: Pick<KubeConnection, "call">): Promise<boolean> {
  return !isOld(await connection.call<Version>("/version"));
}

/** Tells once of an older server. Asks until it answers; never rejects. */
export async function tellOfOldServer(connection: KubeConnection, log: Logger, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const version = await connection.call<Version>("/version");
      if (isOld(version)) {
        const words = `Kubernetes is older than 1.${LEAST_MINOR}: rules in CEL do not hold there, and what it lacks is gone without`;
        log.warn({ version: version.gitVersion }, words);
      }
      return;
    } catch (error) {
      // Who may not ask is told nothing.
      if (error instanceof KubeError && [401, 403, 404].includes(error.status)) return;
      await sleep(AGAIN_MS, signal);
    }
  }
}

/** Such as `20`, or `20+` of somebody's own build. */
function isOld({ major = "", minor = "" }: Version): boolean {
  return Number(major) === 1 && Number.parseInt(minor, 10) < LEAST_MINOR;
}
