/**
 * Whether the CRDs are ours. Those of the LLM Orchestrator have the same kinds and no subresource `status`: objects are
 * listed, and everything that is written of how they are is answered with 404.
 */
import { API_VERSION } from "../objects/meta.ts";
import type { KubeConnection } from "./connection.ts";

const NEEDED = ["llmworkloads/status", "llmmodels/status"] as const;
/** Somebody may apply the others again. */
const AGAIN_MS = 60_000;

interface Discovered {
  readonly resources: readonly { readonly name: string }[];
}

export class OwnKinds {
  readonly #connection: Pick<KubeConnection, "call">;
  #foundAt = Number.NEGATIVE_INFINITY;

  constructor(connection: Pick<KubeConnection, "call">) {
    this.#connection = connection;
  }

  /** @returns what to do about it; `null`: nothing, or the server does not say, which stops nobody. */
  async trouble(now: number): Promise<string | null> {
    if (now - this.#foundAt < AGAIN_MS) return null;
    const resources = await this.#connection.call<Discovered>(`/apis/${API_VERSION}`).then(
      (found) => found.resources,
      () => null,
    );
    if (resources === null) return null;
    const lacking = NEEDED.filter((name) => !resources.some((one) => one.name === name));
    if (lacking.length > 0) {
      return `the CRDs that are there lack ${lacking.join(", ")}: gpuo cluster crds prints this controller's, which go over them`;
    }
    this.#foundAt = now;
    return null;
  }
}
