/** The TypeScript SDK: what `gpuo-client` gives its users. */
import { readFileSync } from "node:fs";
import { defaultUrl } from "./default-url.ts";
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

export interface ConnectOptions {
  /** `http://`, `https://`, or `unix:` and a path. Default: $GPU_ORCHESTRATOR_URL, else as of gpuo: the socket, else port 8086. */
  readonly url?: string;
  /** Default: what the file $GPU_ORCHESTRATOR_API_KEY_FILE has, else $GPU_ORCHESTRATOR_API_KEY. */
  readonly key?: string;
}

/** A client of the daemon, for Node. */
export function connect({ url, key }: ConnectOptions = {}): LeasingClient {
  const { GPU_ORCHESTRATOR_URL: named, GPU_ORCHESTRATOR_API_KEY_FILE: file } = process.env;
  const address = url ?? (named || defaultUrl());
  const given = key ?? (file ? null : process.env.GPU_ORCHESTRATOR_API_KEY || null);
  // Read each time: a key that is changed on disk is taken up.
  const current = () => given ?? (file && key === undefined ? readFileSync(file, "utf8").trim() : null);
  return new LeasingClient({ transport: nodeTransport(address), key: current, isLocal: isLocal(address), held });
}

function isLocal(url: string): boolean {
  return url.startsWith("unix:") || /^(?:localhost|\[::1\]|127(?:\.\d+){3})$/.test(new URL(url).hostname);
}
