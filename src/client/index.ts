/** What the TypeScript SDK gives its users. */
export { Client, type ClientOptions, type EventMessage } from "./client.ts";
export { ApiProblem, type FieldError, LeaseLost, NotGranted, Unreachable } from "./errors.ts";
export { nodeTransport } from "./node-transport.ts";
export { fetchTransport, type Transport } from "./transport.ts";
export type * from "./types.ts";
