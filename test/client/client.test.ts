import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { Client, type ClientOptions } from "../../src/client/client.ts";
import { ApiProblem, NotGranted, Unreachable } from "../../src/client/errors.ts";
import { nodeTransport } from "../../src/client/node-transport.ts";
import { fetchTransport } from "../../src/client/transport.ts";
import { answer, refuse, type Script, type Scripted, scripted } from "./server.ts";

const servers: Scripted[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serving(script: Script, listenOn: string | number = 0) {
  const server = await scripted(script, listenOn);
  servers.push(server);
  const clientWith = (options: Partial<ClientOptions> = {}) =>
    new Client({ transport: nodeTransport(server.url), ...options });
  return { server, clientWith };
}

describe("a client's calls", () => {
  test.each([
    ["node:http", nodeTransport],
    ["fetch", fetchTransport],
  ])("by %s bear the key, and a JSON body", async (_name, transportTo) => {
    const { server } = await serving((response) => answer(response, 200, { outcome: "granted" }));
    const client = new Client({ transport: transportTo(server.url), key: () => "s3cret" });
    expect(await client.plan({ service_name: "svc", required_gpus: 2 })).toEqual({ outcome: "granted" });
    expect(server.asked[0]).toMatchObject({
      method: "POST",
      url: "/gpu/plan",
      body: '{"service_name":"svc","required_gpus":2}',
    });
    expect(server.asked[0]?.headers).toMatchObject({
      authorization: "Bearer s3cret",
      "content-type": "application/json",
    });
  });

  test("go over a Unix socket", async () => {
    const folder = mkdtempSync(join(tmpdir(), "gpuo-client-"));
    const { clientWith } = await serving((response) => answer(response, 200, { gpus: [] }), join(folder, "s.sock"));
    expect(await clientWith().status()).toEqual({ gpus: [] });
    rmSync(folder, { recursive: true });
  });

  test("that are refused throw the problem with its code, its fields and when to try again", async () => {
    const { clientWith } = await serving((response) => {
      const errors = [{ path: "required_gpus", message: "expected a whole number" }];
      answer(response, 422, { code: "validation-failed", detail: "not valid", errors }, { "retry-after": "7" });
    });
    const error = await clientWith()
      .allocate({ service_name: "svc" }, "k")
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ApiProblem);
    expect(error).toMatchObject({ status: 422, code: "validation-failed", message: "not valid", retryAfterMs: 7_000 });
    expect((error as ApiProblem).errors).toEqual([{ path: "required_gpus", message: "expected a whole number" }]);
  });

  test.each([
    ["node:http", nodeTransport],
    ["fetch", fetchTransport],
  ])("by %s say when nobody listens, and that nothing arrived", async (_name, transportTo) => {
    const { server } = await serving(() => {});
    await server.close();
    const client = new Client({ transport: transportTo(server.url) });
    await expect(client.status()).rejects.toMatchObject({ name: "Unreachable", refused: true });
  });

  test("are repeated with the same key when no answer came, until one does", async () => {
    const { server, clientWith } = await serving((response, _asked, count) => {
      if (count < 3) response.destroy();
      else answer(response, 200, { status: "allocated", id: "svc-1" });
    });
    const granted = await clientWith({ patienceMs: 20_000 }).allocate({ service_name: "svc" }, "one-key");
    expect(granted.id).toBe("svc-1");
    expect(server.asked.map(({ headers }) => headers["idempotency-key"])).toEqual(["one-key", "one-key", "one-key"]);
  });

  test("are repeated while the daemon starts, stops or is overloaded, and not when it says no", async () => {
    const { server, clientWith } = await serving((response, _asked, count) => {
      if (count === 1) refuse(response, 503, "shutting-down");
      else refuse(response, 503, "queue-full");
    });
    await expect(clientWith({ patienceMs: 20_000 }).allocate({ service_name: "svc" }, "k")).rejects.toMatchObject({
      code: "queue-full",
    });
    expect(server.asked).toHaveLength(2);
  });

  test("that cannot be done twice are not repeated once they may have arrived", async () => {
    const { server, clientWith } = await serving((response) => response.destroy());
    await expect(clientWith({ patienceMs: 20_000 }).revoke("svc-1", "because")).rejects.toBeInstanceOf(Unreachable);
    expect(server.asked).toHaveLength(1);
  });

  test("end when their caller gives up", async () => {
    const { clientWith } = await serving(() => {});
    const giveUp = new AbortController();
    const call = clientWith({ patienceMs: 20_000 }).status({ signal: giveUp.signal });
    giveUp.abort(new Error("enough"));
    await expect(call).rejects.toThrow("enough");
  });

  test("take an answer that is not the API's for what it is", async () => {
    const { clientWith } = await serving((response) => response.writeHead(200).end("<html>"));
    await expect(clientWith().status()).rejects.toThrow("what answered is not the daemon");
  });
});

describe("waiting for a grant", () => {
  test("polls until the request is granted, and tells of what it saw", async () => {
    const records = [
      { id: "svc-1", status: "queued", position: 2 },
      { id: "svc-1", status: "queued", position: 1 },
      { id: "svc-1", status: "offered" },
    ];
    const { server, clientWith } = await serving((response, _asked, count) =>
      answer(response, 200, records[count - 1]),
    );
    const seen: unknown[] = [];
    const record = await clientWith().granted("svc-1", ({ position }) => seen.push(position));
    expect(record.status).toBe("offered");
    expect(seen).toEqual([2, 1]);
    expect(server.asked.map(({ url }) => url)).toEqual([
      "/gpu/allocations/svc-1",
      ...Array(2).fill("/gpu/allocations/svc-1?wait=30000ms"),
    ]);
  });

  test("says why when it ends without one", async () => {
    const ended = { id: "svc-1", status: "ended", end_reason: "timed_out", end_detail: "waited 30 s" };
    const { clientWith } = await serving((response) => answer(response, 200, ended));
    const error = await clientWith()
      .granted("svc-1")
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NotGranted);
    expect(error).toMatchObject({ reason: "timed_out", message: "waited 30 s" });
  });
});

describe("events", () => {
  const stream = { "content-type": "text/event-stream" };

  test("go on after the last one seen when their stream breaks", async () => {
    const { server, clientWith } = await serving((response, _asked, count) => {
      response.writeHead(200, stream);
      if (count === 1) {
        response.write('retry: 2000\nid: 4\n\nid: 5\nevent: granted\ndata: {"at":"a"}\n\nid: 6\nevent: en');
        setTimeout(() => response.destroy(), 20);
      } else response.write('id: 6\nevent: ended\ndata: {"at":"b"}\n\n');
    });
    const seen: unknown[] = [];
    for await (const event of clientWith({ patienceMs: 20_000 }).events(4)) {
      seen.push(event);
      if (seen.length === 2) break;
    }
    expect(seen).toEqual([
      { id: 5, type: "granted", data: { at: "a" } },
      { id: 6, type: "ended", data: { at: "b" } },
    ]);
    expect(server.asked.map(({ headers }) => headers["last-event-id"])).toEqual(["4", "5"]);
  });

  test("begin with the id of the latest, whatever comes", async () => {
    const { clientWith } = await serving((response) =>
      response.writeHead(200, stream).write("retry: 2000\nid: 41\n\n"),
    );
    expect(await clientWith().lastEventId()).toBe(41);
  });

  test("are refused as a call is", async () => {
    const { clientWith } = await serving((response) => refuse(response, 401, "unauthenticated"));
    await expect(clientWith().events(0).next()).rejects.toMatchObject({ code: "unauthenticated" });
  });
});
