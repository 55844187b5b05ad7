/**
 * Nodes on which a workload's replica did not come up: its next one goes elsewhere, where there is another.
 *
 * The node bears a label of the workload for a while, and pods of the workload prefer nodes without it. Their template never
 * changes by that, so nothing rolls.
 */
import { createHash } from "node:crypto";
import type { Workload } from "../objects/workload.ts";
import type { KubeConnection } from "./connection.ts";
import { unlessGone } from "./trouble.ts";
import type { KubeObject, Watch } from "./watch.ts";

const PREFIX = "avoid.llm-orchestrator.io/";
/** The longest pause between two tries of a replica: after it the node is as good as any. */
const AVOIDED_MS = 3_600_000;

export function avoidLabel({ metadata: { uid } }: Pick<Workload, "metadata">): string {
  return PREFIX + createHash("sha256").update(uid).digest("hex").slice(0, 12);
}

export class Avoidance {
  readonly #connection: KubeConnection;
  readonly #nodes: Watch;

  constructor(connection: KubeConnection, nodes: Watch) {
    this.#connection = connection;
    this.#nodes = nodes;
  }

  async avoid(workload: Workload, node: string, now: number): Promise<void> {
    const until = String(Math.floor((now + AVOIDED_MS) / 1_000));
    await this.#label(node, { [avoidLabel(workload)]: until });
  }

  /** Takes labels away whose time is over. By those that lead alone. */
  async tend(now: number): Promise<void> {
    for (const node of this.#nodes.all()) {
      const over = Object.entries(node.metadata.labels ?? {}).filter(
        ([label, until]) => label.startsWith(PREFIX) && !(Number(until) * 1_000 > now),
      );
      if (over.length > 0)
        await this.#label(node.metadata.name, Object.fromEntries(over.map(([name]) => [name, null])));
    }
  }

  async #label(node: string, labels: Readonly<Record<string, string | null>>): Promise<void> {
    const call = {
      method: "PATCH",
      contentType: "application/merge-patch+json",
      body: { metadata: { labels } },
    } as const;
    const patched = this.#connection.call<KubeObject>(`/api/v1/nodes/${node}`, call);
    await unlessGone(patched.then((made) => this.#nodes.learn(made)));
  }
}
