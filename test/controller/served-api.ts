/** The controller's API on a socket, over objects in memory and a backend that does nothing: for tests of what it answers. */
import { pino } from "pino";
import type { ApiParts } from "../../src/controller/api/parts.ts";
import { createApiServer } from "../../src/controller/api/server.ts";
import type { Backend, Look } from "../../src/controller/reconcile/backend.ts";
import { ReconcileLoop } from "../../src/controller/reconcile/loop.ts";
import { type ControllerFlags, loadSettings } from "../../src/controller/settings/settings.ts";
import { Idempotency } from "../../src/http/exchange/idempotency.ts";
import { SETTINGS } from "./objects.ts";
import { SqliteObjects } from "./sqlite-objects.ts";

const IDLE: Omit<Backend, "look"> = {
  kind: "host",
  templateOf: () => null,
  apply: async () => [],
  tend: async () => undefined,
  figures: () => [],
  keepToken: async () => undefined,
  drain: async (node) => ({ node, status: "drained", blockedBy: [] }),
  uncordon: async (node) => ({ node, status: "ready", blockedBy: [] }),
};

export interface ServedApi {
  readonly store: SqliteObjects;
  readonly parts: ApiParts;
  readonly url: string;
  close(): Promise<void>;
}

/** @param seen is what the backend shows; absent: it was never looked at. */
export async function serveApi(flags: ControllerFlags = {}, seen?: Look): Promise<ServedApi> {
  const settings = loadSettings({ backend: "host", ...flags }, {});
  const store = await SqliteObjects.open(":memory:");
  const look = async () => {
    if (seen === undefined) throw new Error("nobody looks here");
    return seen;
  };
  let count = 0;
  const stores = { objects: store, history: store, backend: { ...IDLE, look } };
  const clock = { newId: () => String(count++), now: () => Date.now() };
  const log = pino({ level: "silent" });
  const loop = new ReconcileLoop({ ...stores, ...clock, settings: SETTINGS, leads: () => seen !== undefined, log });
  const idempotency = new Idempotency(store);
  const parts = { ...stores, ...clock, loop, settings, version: "1", idempotency, database: store };
  const server = createApiServer(parts, log);
  const { port } = await server.listen("127.0.0.1", 0);
  if (seen !== undefined) await loop.pass();
  return {
    store,
    parts,
    url: `http://127.0.0.1:${port}`,
    async close() {
      await server.drain();
      await store.close();
    },
  };
}
