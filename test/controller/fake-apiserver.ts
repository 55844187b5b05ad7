/**
 * What the controller asks of a kube-apiserver, kept in memory: lists, watches, merges, server-side apply (as merges: one
 * manager is enough here), statuses, finalizers and leases. It says what was written, so that a test can count.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

// biome-ignore lint/suspicious/noExplicitAny: objects of any kind.
export type Any = any;

export class FakeApiserver {
  readonly writes: string[] = [];
  /** Writes that are refused, by path. */
  readonly refusals = new Map<string, { readonly status: number; readonly message: string }>();
  /** Collections that may not be read, by path: neither listed nor watched. */
  readonly unreadable = new Map<string, string>();
  /** Reads that fail, by path. */
  readonly ill = new Set<string>();
  readonly #objects = new Map<string, Any>();
  readonly #watchers = new Set<{
    readonly collection: string;
    readonly of: string | null;
    readonly res: ServerResponse;
  }>();
  readonly #server = createServer(async (req, res) => {
    let body = "";
    for await (const chunk of req) body += chunk;
    const url = new URL(req.url ?? "", "http://x");
    this.#answer(
      req.method ?? "GET",
      url,
      body === "" ? null : JSON.parse(body),
      req.headers["content-type"] ?? "",
      res,
    );
  });
  #version = 0;

  async start(): Promise<string> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }

  get(path: string): Any {
    return this.#objects.get(path);
  }

  all(kind: string): Any[] {
    return [...this.#objects].filter(([path]) => path.split("/").at(-2) === kind).map(([, object]) => object);
  }

  /** As a kubelet, a scheduler or a user writes it: no write of the controller's. */
  set(path: string, object: Any): void {
    const old = this.#objects.get(path);
    const isChanged = JSON.stringify(old?.spec) !== JSON.stringify(object.spec);
    const metadata = {
      uid: old?.metadata.uid ?? `uid-${this.#version}`,
      creationTimestamp: "2026-01-01T00:00:00Z",
      ...object.metadata,
      generation: (old?.metadata.generation ?? 0) + (isChanged ? 1 : 0),
      resourceVersion: String(++this.#version),
    };
    this.#objects.set(path, { ...object, metadata });
    this.#tell(path, old);
    const { deletionTimestamp, finalizers = [] } = metadata;
    if (deletionTimestamp !== undefined && finalizers.length === 0) this.remove(path);
  }

  remove(path: string): void {
    const old = this.#objects.get(path);
    this.#objects.delete(path);
    if (old !== undefined) this.#tell(path, old);
  }

  /** What no longer has the labels that a watch is of is gone for it. */
  #tell(path: string, old: Any): void {
    const now = this.#objects.get(path);
    for (const { collection, of, res } of this.#watchers) {
      if (!isIn(path, collection)) continue;
      const [was, is] = [hasLabel(old, of), hasLabel(now, of)];
      const object = now ?? old;
      if (was || is) res.write(`${JSON.stringify({ type: is ? (was ? "MODIFIED" : "ADDED") : "DELETED", object })}\n`);
    }
  }

  #answer(method: string, url: URL, body: Any, type: string, res: ServerResponse): unknown {
    const send = (status: number, value: unknown) => {
      res.statusCode = status;
      res.end(JSON.stringify(value));
    };
    const isStatus = url.pathname.endsWith("/status");
    const path = isStatus ? url.pathname.slice(0, -"/status".length) : url.pathname;
    if (method !== "GET" && !path.includes("/leases")) this.writes.push(`${method} ${url.pathname}`);
    const unreadable = method === "GET" ? this.unreadable.get(path) : undefined;
    if (unreadable !== undefined) return send(403, { message: unreadable, reason: "Forbidden" });
    if (method === "GET" && this.ill.has(path)) return send(500, { message: "etcd is away", reason: "InternalError" });
    const of = url.searchParams.get("labelSelector");
    if (url.searchParams.has("watch")) {
      this.#watchers.add({ collection: path, of, res });
      return res.flushHeaders();
    }
    const refusal = method === "GET" ? undefined : this.refusals.get(path);
    if (refusal !== undefined) return send(refusal.status, { message: refusal.message });
    const old = this.#objects.get(path);
    if (path.endsWith("/eviction")) {
      if (!this.#objects.has(path.slice(0, -"/eviction".length))) return send(404, { reason: "NotFound" });
      this.remove(path.slice(0, -"/eviction".length));
      return send(201, {});
    }
    if (method === "GET" && old === undefined && isCollection(path)) {
      const there = [...this.#objects].filter(([one, object]) => isIn(one, path) && hasLabel(object, of));
      const items = there.map(([, object]) => object);
      const from = Number(url.searchParams.get("continue") ?? 0);
      const to = from + Number(url.searchParams.get("limit") ?? items.length);
      const next = to < items.length ? { continue: String(to) } : {};
      return send(200, { metadata: { resourceVersion: String(this.#version), ...next }, items: items.slice(from, to) });
    }
    if (method === "GET") return old === undefined ? send(404, { reason: "NotFound" }) : send(200, old);
    if (method === "POST") {
      if (this.#objects.has(`${path}/${body.metadata.name}`)) return send(409, { reason: "AlreadyExists" });
      this.set(`${path}/${body.metadata.name}`, body);
      return send(201, this.get(`${path}/${body.metadata.name}`));
    }
    if (method === "DELETE") {
      if (old === undefined) return send(404, { reason: "NotFound" });
      this.set(path, { ...old, metadata: { ...old.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } });
      return send(200, {});
    }
    if (method === "PUT") {
      if (body.metadata.resourceVersion !== old?.metadata.resourceVersion) return send(409, { reason: "Conflict" });
      this.set(path, body);
      return send(200, this.get(path));
    }
    if (old === undefined && (isStatus || type.includes("merge"))) return send(404, { reason: "NotFound" });
    if (
      path.includes("/controllerrevisions/") &&
      old !== undefined &&
      JSON.stringify(old.data) !== JSON.stringify(body.data)
    ) {
      return send(422, { message: "data: Invalid value: field is immutable", reason: "Invalid" });
    }
    const { resourceVersion = old?.metadata.resourceVersion } = body.metadata ?? {};
    if (resourceVersion !== old?.metadata.resourceVersion) return send(409, { reason: "Conflict" });
    const merged = isStatus ? { ...old, status: merge(old.status ?? {}, body.status) } : merge(old ?? {}, body);
    if (JSON.stringify(merged) !== JSON.stringify(old)) this.set(path, merged);
    return send(200, this.get(path));
  }
}

/** @param label is one `name=value`; `null`: any will do. */
function hasLabel(object: Any, label: string | null): boolean {
  if (object === undefined || label === null) return object !== undefined;
  const [name = "", value] = label.split("=");
  return object.metadata.labels?.[name] === value;
}

function isCollection(path: string): boolean {
  return /\/v1(?:beta1)?\/(namespaces\/[^/]+\/)?[a-z]+$/.test(path);
}

/** `/apis/apps/v1/deployments` has all of `/apis/apps/v1/namespaces/NS/deployments/NAME`. */
function isIn(path: string, collection: string): boolean {
  const folder = path.slice(0, path.lastIndexOf("/"));
  return folder === collection || folder.replace(/\/namespaces\/[^/]+(?=\/)/, "") === collection;
}

function merge(old: Any, given: Any): Any {
  if (typeof old !== "object" || old === null || typeof given !== "object" || given === null || Array.isArray(given)) {
    return given;
  }
  const merged = Object.entries(given).map(([key, value]) => [key, merge(old[key], value)]);
  // A null takes its field away (RFC 7386).
  return Object.fromEntries(
    Object.entries({ ...old, ...Object.fromEntries(merged) }).filter(([, one]) => one !== null),
  );
}
