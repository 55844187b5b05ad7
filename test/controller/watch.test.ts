/** The watch layer and the election against a server that does what a kube-apiserver does, and fails as one fails. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { KubeConnection } from "../../src/controller/kubernetes/connection.ts";
import { LeaderElection, microTime } from "../../src/controller/kubernetes/leader.ts";
import { Watch } from "../../src/controller/kubernetes/watch.ts";

type Handler = (req: IncomingMessage, res: ServerResponse, url: URL, body: string) => void;

let server: Server;
let connection: KubeConnection;
let handler: Handler;
const folder = mkdtempSync(join(tmpdir(), "watch-"));
const object = (name: string, version: string) => ({
  metadata: { name, namespace: "ns", uid: name, resourceVersion: version, creationTimestamp: "2026-01-01T00:00:00Z" },
});
const line = (type: string, of: object) => `${JSON.stringify({ type, object: of })}\n`;
const list = (res: ServerResponse, items: readonly object[], resourceVersion: string, next?: string) =>
  res.end(JSON.stringify({ metadata: { resourceVersion, ...(next === undefined ? {} : { continue: next }) }, items }));

beforeEach(async () => {
  server = createServer(async (req, res) => {
    let body = "";
    for await (const chunk of req) body += chunk;
    handler(req, res, new URL(req.url ?? "", "http://x"), body);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const kubeconfig = join(folder, "kubeconfig");
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server: `http://127.0.0.1:${port}` } }],
      users: [{ name: "u", user: { token: "the-token" } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      "current-context": "c",
    }),
  );
  connection = new KubeConnection({ kubeconfig, context: null });
});
afterEach(async () => {
  await connection.close();
  server.closeAllConnections();
  await new Promise((closed) => server.close(closed));
});
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));

/** A watch that is stopped at the end, and what waits for it to have seen something. */
function watching(options: { silenceMs?: number } = {}) {
  let told: () => void = () => undefined;
  const watch = new Watch(connection, "/api/v1/pods", { changed: () => told(), ...options });
  const until = (holds: () => boolean) =>
    new Promise<void>((resolve) => {
      told = () => {
        if (holds()) resolve();
      };
      told();
    });
  watch.start();
  return { watch, until };
}

describe("a watch", () => {
  test("reads every page of the list, and follows from where it ended, with the kubeconfig's token", async () => {
    const asked: string[] = [];
    handler = (req, res, url) => {
      asked.push(`${url.searchParams.get("continue") ?? ""}${url.searchParams.get("watch") ?? ""}`);
      expect(req.headers.authorization).toBe("Bearer the-token");
      if (url.searchParams.has("watch")) {
        expect(url.searchParams.get("resourceVersion")).toBe("7");
        res.write(line("ADDED", object("c", "8")));
        res.write(line("DELETED", object("a", "9")));
      } else if (url.searchParams.has("continue")) list(res, [object("b", "2")], "7");
      else list(res, [object("a", "1")], "7", "page-2");
    };
    const { watch, until } = watching();
    await until(() => watch.all().length === 2 && watch.get("ns", "c") !== undefined);
    expect(watch.all().map(({ metadata }) => metadata.name)).toEqual(["b", "c"]);
    expect(asked).toEqual(["", "page-2", "true"]);
    await watch.stop();
  });

  test("that is too old is listed anew after a pause, and forgets what has gone meanwhile", async () => {
    let lists = 0;
    const times: number[] = [];
    handler = (_req, res, url) => {
      if (!url.searchParams.has("watch")) {
        times.push(performance.now());
        lists++;
        list(res, lists === 1 ? [object("old", "1")] : [object("new", "5")], String(lists));
      } else if (lists === 1) {
        res.end(line("ERROR", { kind: "Status", code: 410, reason: "Expired", message: "too old", metadata: {} }));
      } else res.write(line("BOOKMARK", object("", "6")));
    };
    const { watch, until } = watching();
    await until(() => watch.get("ns", "new") !== undefined);
    expect(watch.get("ns", "old")).toBeUndefined();
    expect((times[1] as number) - (times[0] as number)).toBeGreaterThan(500);
    await watch.stop();
  });

  test("that is ended at once, again and again, is opened again after a pause, without a list", async () => {
    const asked: string[] = [];
    const times: number[] = [];
    let again: () => void = () => undefined;
    const isAskedAgain = new Promise<void>((resolve) => {
      again = resolve;
    });
    handler = (_req, res, url) => {
      asked.push(url.searchParams.has("watch") ? "watch" : "list");
      if (asked.at(-1) === "list") list(res, [object("a", "1")], "7");
      else {
        times.push(performance.now());
        if (times.length === 2) again();
        res.end();
      }
    };
    const { watch } = watching();
    await isAskedAgain;
    await watch.stop();
    expect((times[1] as number) - (times[0] as number)).toBeGreaterThan(500);
    expect(asked).toEqual(["list", "watch", "watch"]);
    expect(watch.trouble).toBeNull();
  });

  test("that says nothing is opened again from where its last bookmark stood, without a list", async () => {
    const versions: (string | null)[] = [];
    handler = (_req, res, url) => {
      if (!url.searchParams.has("watch")) return list(res, [], "1");
      versions.push(url.searchParams.get("resourceVersion"));
      if (versions.length === 1) res.write(line("BOOKMARK", object("", "40")));
      else res.write(line("ADDED", object("late", "41")));
      return undefined;
    };
    const { watch, until } = watching({ silenceMs: 100 });
    await until(() => watch.get("ns", "late") !== undefined);
    expect(versions).toEqual(["1", "40"]);
    expect(watch.lists).toBe(1);
    await watch.stop();
  });

  test("that broke off is up to date as soon as it is open again, though its server says nothing", async () => {
    let opens = 0;
    handler = (_req, res, url) => {
      if (!url.searchParams.has("watch")) return list(res, [], "1");
      opens++;
      if (opens === 1) return res.flushHeaders();
      if (opens === 2) return res.writeHead(429, { "retry-after": "0" }).end("too many");
      return res.flushHeaders();
    };
    const { watch } = watching();
    await expect.poll(() => opens === 1 && watch.trouble === null).toBe(true);
    server.closeAllConnections();
    await expect.poll(() => opens === 3 && watch.trouble === null, { timeout: 10_000 }).toBe(true);
    expect(watch.lists).toBe(1);
    await watch.stop();
  });

  test("whose server refuses it says why, and heals", async () => {
    let refused = 0;
    handler = (_req, res, url) => {
      if (url.searchParams.has("watch")) return void res.write(line("BOOKMARK", object("", "2")));
      if (refused++ > 0) return list(res, [object("a", "1")], "1");
      res.statusCode = 403;
      return res.end(JSON.stringify({ kind: "Status", reason: "Forbidden", message: "may not list pods" }));
    };
    const { watch, until } = watching();
    await until(() => watch.trouble?.includes("may not list pods") === true);
    await until(() => watch.trouble === null && watch.all().length === 1);
    await watch.stop();
  });
});

describe("what a write has answered", () => {
  const of = (uid: string, version: string) => {
    const { metadata } = object("a", version);
    return { metadata: { ...metadata, uid } };
  };

  async function at(lines: readonly string[], listed: readonly object[] = [object("a", "5")]) {
    let say: (one: string) => void = () => undefined;
    handler = (_req, res, url) => {
      if (!url.searchParams.has("watch")) return void list(res, listed, "5");
      say = (one) => void res.write(one);
      for (const one of lines) say(one);
    };
    const { watch, until } = watching();
    return { watch, until, say: (one: string) => say(one) };
  }

  test("is passed over where the watch has seen a later change already: it would stand until the next one", async () => {
    const { watch, until } = await at([line("MODIFIED", object("a", "9"))]);
    await until(() => watch.get("ns", "a")?.metadata.resourceVersion === "9");
    watch.learn(object("a", "8"));
    expect(watch.get("ns", "a")?.metadata.resourceVersion).toBe("9");
    watch.learn(object("a", "10"));
    expect(watch.get("ns", "a")?.metadata.resourceVersion).toBe("10");
    await watch.stop();
  });

  test("brings nothing back that has gone since", async () => {
    const { watch, until } = await at([line("DELETED", object("a", "9"))]);
    await until(() => watch.changes === 2);
    watch.learn(object("a", "8"));
    expect(watch.all()).toEqual([]);
    await watch.stop();
  });

  test("is not forgotten for what is told late of its predecessor", async () => {
    const { watch, until, say } = await at([line("MODIFIED", of("old", "6"))], [of("old", "5")]);
    await until(() => watch.get("ns", "a")?.metadata.resourceVersion === "6");
    watch.learn(of("new", "9"));
    say(line("MODIFIED", of("old", "7")) + line("DELETED", of("old", "8")));
    await until(() => watch.changes === 5);
    expect(watch.get("ns", "a")?.metadata.uid).toBe("new");
    await watch.stop();
  });
});

describe("a server that is ill", () => {
  test.each([
    ["an event without a version", `${JSON.stringify({ type: "MODIFIED", object: { metadata: { name: "a" } } })}\n`],
    ["an event without an object", `${JSON.stringify({ type: "ADDED" })}\n`],
    ["half a page of HTML", "<html>\n<body>"],
    ["nothing but null", "null\n"],
  ])("says %s: the watch says so, and goes on from where it stood", async (_, said) => {
    const from: (string | null)[] = [];
    handler = (_req, res, url) => {
      if (!url.searchParams.has("watch")) return list(res, [object("a", "5")], "5");
      from.push(url.searchParams.get("resourceVersion"));
      return from.length === 1 ? void res.end(said) : void res.write(line("MODIFIED", object("a", "6")));
    };
    const { watch, until } = watching();
    await until(() => watch.trouble !== null && from.length === 1);
    await until(() => watch.get("ns", "a")?.metadata.resourceVersion === "6");
    expect(from).toEqual(["5", "5"]);
    expect(watch.trouble).toBeNull();
    await watch.stop();
  });

  test.each(["<html>", "null", '"text"', "{", ""])(
    "that answers %j to a call is away, not a bug of ours",
    async (said) => {
      handler = (_req, res) => res.end(said);
      await expect(connection.call("/api/v1/pods")).rejects.toMatchObject({ code: "backend-unavailable" });
    },
  );

  test("that answers a list with something else is not taken for one that has nothing", async () => {
    let lists = 0;
    handler = (_req, res, url) => {
      if (url.searchParams.has("watch")) return void res.flushHeaders();
      return lists++ === 0 ? res.end("{}") : list(res, [object("a", "5")], "5");
    };
    const { watch, until } = watching();
    await until(() => watch.trouble?.includes("no list") === true);
    await until(() => watch.trouble === null && watch.all().length === 1);
    await watch.stop();
  });

  test.each(["0", "", "-5", "soon", "99999999999"])(
    "and wishes to be asked again after %j s is not asked without end",
    async (wish) => {
      let asked = 0;
      handler = (_req, res) => {
        asked++;
        res.writeHead(429, { "retry-after": wish });
        res.end("{}");
      };
      const { watch, until } = watching();
      await until(() => watch.trouble?.includes("429") === true);
      await new Promise((resolve) => setTimeout(resolve, 400));
      expect(asked).toBe(1);
      await watch.stop();
    },
  );
});

describe("the election", () => {
  /** A Lease that is kept as a server keeps it: a write bears the version that it changes. */
  function leases() {
    let lease: { metadata: { resourceVersion: string }; spec: Record<string, unknown> } | null = null;
    let version = 0;
    let reads = 0;
    /** So long an answer to a write is kept back, by the candidates' clock. */
    const slow = { ms: 0 };
    /** Who is quicker than whoever reads next. */
    const quicker: string[] = [];
    handler = (req, res, _url, body) => {
      const given = body === "" ? null : JSON.parse(body);
      if (req.method === "GET") reads++;
      else clock += slow.ms;
      const refuse = (status: number) => {
        res.statusCode = status;
        res.end("{}");
      };
      if (req.method === "GET") {
        if (lease === null) return refuse(404);
        res.end(JSON.stringify(lease));
        return quicker.splice(0).forEach(take);
      }
      if (req.method === "POST" && lease !== null) return refuse(409);
      if (req.method === "PUT" && given.metadata.resourceVersion !== lease?.metadata.resourceVersion)
        return refuse(409);
      lease = { metadata: { resourceVersion: String(++version) }, spec: given.spec };
      return void res.end(JSON.stringify(lease));
    };
    /** Somebody else has it now. */
    const take = (holderIdentity: string) => {
      lease = { metadata: { resourceVersion: String(++version) }, spec: { ...lease?.spec, holderIdentity } };
    };
    return { spec: () => lease?.spec ?? {}, writes: () => version, reads: () => reads, slow, take, quicker };
  }
  let clock = 0;
  const troubles: string[] = [];
  const failed = (error: Error) => troubles.push(error.message);
  const candidate = (identity: string, monotonicMs = () => clock) =>
    new LeaderElection(connection, { namespace: "ns", name: "lease", identity, monotonicMs, failed });

  test("has one leader; another one takes over only when the lease is unchanged for its time, by its own clock", async () => {
    const { spec } = leases();
    const stop = new AbortController();
    await candidate("first").acquire(stop.signal);
    expect(spec()).toMatchObject({ holderIdentity: "first", leaseTransitions: 0 });
    const second = candidate("second");
    const won = second.acquire(stop.signal).then(() => "second");
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(spec().holderIdentity).toBe("first");
    clock += 16_000;
    expect(await won).toBe("second");
    expect(spec()).toMatchObject({ holderIdentity: "second", leaseTransitions: 1 });
    stop.abort();
  });

  test("is won when the lease of one that is silent has run out, not with the question after that", async () => {
    const { take, spec } = leases();
    take("first");
    Object.assign(spec(), { leaseDurationSeconds: 1 });
    const began = performance.now();
    const second = candidate("second", () => performance.now());
    await second.acquire(new AbortController().signal);
    const tookMs = performance.now() - began;
    expect(tookMs).toBeGreaterThan(1_000);
    // Questions come 1.6 s and more after each other.
    expect(tookMs).toBeLessThan(1_500);
  });

  test("renews its lease, by a clock that counts parts of milliseconds", async () => {
    const { writes } = leases();
    const stop = new AbortController();
    const first = candidate("first");
    await first.acquire(stop.signal);
    clock += 0.37;
    const before = writes();
    const held = first.hold(stop.signal);
    await vi.waitFor(() => expect(writes()).toBeGreaterThan(before), { timeout: 45_000 });
    expect(first.isHeld).toBe(true);
    stop.abort();
    await held;
    expect(troubles).toEqual([]);
    // As a process that was stopped meanwhile finds it when it goes on.
    clock += 10_001;
    expect(first.isHeld).toBe(false);
  });

  test("renews in one call, the next one at once where one took long, and reads where somebody else has written", async () => {
    const { spec, writes, reads, slow, take } = leases();
    const stop = new AbortController();
    const first = candidate("first");
    await first.acquire(stop.signal);
    const [before, readBefore] = [writes(), reads()];
    slow.ms = 4_000;
    const began = performance.now();
    const held = first.hold(stop.signal);
    await vi.waitFor(() => expect(writes()).toBeGreaterThan(before + 3), { timeout: 45_000, interval: 5 });
    // The first after a pause of 2 s, and three more without one.
    expect(performance.now() - began).toBeLessThan(4_000);
    expect(reads()).toBe(readBefore);
    take("second");
    await held;
    expect(stop.signal.aborted).toBe(false);
    expect(spec().holderIdentity).toBe("second");
    expect(reads()).toBe(readBefore + 1);
  });

  test("is lost to whoever writes first of two that find the lease free", async () => {
    const { spec, quicker } = leases();
    const first = candidate("first");
    await first.acquire(new AbortController().signal);
    await first.release();
    quicker.push("second");
    const third = candidate("third");
    const stop = new AbortController();
    const over = third.acquire(stop.signal);
    await vi.waitFor(() => expect(spec().holderIdentity).toBe("second"), { timeout: 5_000, interval: 5 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(third.isHeld).toBe(false);
    stop.abort();
    await over;
    expect(spec().holderIdentity).toBe("second");
  });

  test("is of processes that have nothing in common, though their hosts and numbers have the same names", async () => {
    const { IDENTITY: one } = await import("../../src/controller/kubernetes/connection.ts");
    vi.resetModules();
    const { IDENTITY: other } = await import("../../src/controller/kubernetes/connection.ts");
    expect(other).not.toBe(one);
    for (const identity of [one, other]) expect(identity.endsWith(`_${process.pid}`)).toBe(true);
  });

  test("gives its lease back at the end, so that the next need not wait", async () => {
    const { spec } = leases();
    const first = candidate("first");
    await first.acquire(new AbortController().signal);
    await first.release();
    expect(spec()).toMatchObject({ holderIdentity: "", leaseDurationSeconds: 1 });
    await candidate("second").acquire(new AbortController().signal);
    expect(spec().holderIdentity).toBe("second");
  });

  test("writes times with exactly six digits, as Kubernetes reads them", () => {
    expect(microTime(0)).toBe("1970-01-01T00:00:00.000000Z");
  });
});
