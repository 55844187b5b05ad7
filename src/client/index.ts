/** The TypeScript SDK: what `gpuo-client` gives its users. */
import { LeasingClient } from "./lease.ts";
import { HeldUntilTerm } from "./leaving.ts";
import { nodeTransport } from "./node-transport.ts";

export { Client, type ClientOptions, type EventMessage } from "./client.ts";
export { ApiProblem, type FieldError, LeaseLost, NotGranted, Unreachable } from "./errors.ts";
export { Lease, type LeaseOptions, LeasingClient } from "./lease.ts";
export { nodeTransport } from "./node-transport.ts";
export { fetchTransport, type Transport } from "./transport.ts";
export type * from "./types.ts";
export { verifyWebhook, WebhookError } from "./webhooks.ts";

const held = new HeldUntilTerm();

const DEFAULT_URL = "http://127.0.0.1:8086";

export interface ConnectOptions {
  /** `http://`, `https://`, or `unix:` and a path. Default: $GPU_ORCHESTRATOR_URL, else port 8086 of this host. */
  readonly url?: string;
  /** Default: $GPU_ORCHESTRATOR_API_KEY. */
  readonly key?: string;
}

/** A client of the daemon, for Node. */
export function connect({ url, key }: ConnectOptions = {}): LeasingClient {
  const address = url ?? process.env.GPU_ORCHESTRATOR_URL ?? DEFAULT_URL;
  const given = key ?? process.env.GPU_ORCHESTRATOR_API_KEY ?? null;
  return new LeasingClient({ transport: nodeTransport(address), key: () => given, isLocal: isLocal(address), held });
}

function isLocal(url: string): boolean {
  return url.startsWith("unix:") || /^(?:localhost|\[::1\]|127(?:\.\d+){3})$/.test(new URL(url).hostname);
}
