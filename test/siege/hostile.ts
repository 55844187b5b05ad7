/**
 * Hostile clients, as a process of their own: `hostile.ts URL SECONDS KEY...`. Each attack is one that once took the
 * daemon from everybody else. The last line of its output counts what was done, so that a siege that never happened fails.
 */
import { createServer, request as httpRequest } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";

const [url = "", seconds = "1", ...keys] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const endsAt = Date.now() + Number(seconds) * 1_000;
const done: Record<string, number> = {};
const count = (what: string) => {
  done[what] = (done[what] ?? 0) + 1;
};
const isOn = () => Date.now() < endsAt;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A connection whose answers nobody reads. */
function open(): Promise<Socket | null> {
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on("error", () => resolve(null));
    socket.on("connect", () => resolve(socket));
  });
}

function bytes(path: string, key: string | null): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${key === null ? "" : `X-API-Key: ${key}\r\n`}\r\n`;
}

/** A call whose answer is read, for its status. */
function call(
  method: string,
  path: string,
  key: string | null,
  body?: object,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers = {
      ...(key === null ? {} : { "X-API-Key": key }),
      ...(body === undefined ? {} : { "Content-Type": "application/json", "Content-Length": String(text.length) }),
    };
    const req = httpRequest({ hostname, port, method, path, headers, agent: false, timeout: 20_000 }, (res) => {
      let received = "";
      res.on("data", (chunk) => {
        received += chunk;
      });
      res.on("close", () => resolve({ status: res.statusCode ?? 0, text: received }));
    });
    req.on("error", () => resolve({ status: 0, text: "" }));
    req.on("timeout", () => req.destroy());
    req.end(text);
  });
}

async function pipelines(path: string, key: string | null): Promise<void> {
  while (isOn()) {
    const socket = await open();
    socket?.pause();
    socket?.write(bytes(path, key).repeat(400));
    count("pipelines");
    await sleep(1_500);
    socket?.destroy();
  }
}

async function crowds(): Promise<void> {
  const held: Socket[] = [];
  while (isOn()) {
    const socket = await open();
    if (socket !== null) held.push(socket);
    count("connections");
    if (held.length >= 1_200) for (const one of held.splice(0, 600)) one.destroy();
    if (held.length % 50 === 0) await sleep(20);
  }
  for (const socket of held) socket.destroy();
}

async function guesses(): Promise<void> {
  for (let n = 0; isOn(); n++) {
    const { status } = await call("GET", "/gpu/list", `guess-number-${n}`);
    count(status === 429 ? "guesses told to wait" : "guesses");
  }
}

/** Queues and cancels, each time with a webhook that nobody answers, or that has a name which does not resolve. */
async function webhooks(key: string, silent: number): Promise<void> {
  // All that its quota allows: whatever it asks further has to wait.
  await call("POST", "/gpu/allocate", key, { service_name: "eve", ttl: "1h" });
  for (let n = 0; isOn(); n++) {
    const target =
      n % 3 === 0 ? `http://no-${n}-${key.length}.invalid/` : `http://127.0.${n % 250}.${(n >> 8) % 250}:${silent}/`;
    const asked = {
      service_name: "eve",
      required_gpus: 1,
      webhook_url: target,
      workload_data: { pad: "x".repeat(20_000) },
    };
    const { status, text } = await call("POST", "/gpu/allocate", key, asked);
    count(status === 429 ? "requests told to wait" : "requests");
    if (status === 200 || status === 202) await call("DELETE", `/gpu/allocations/${JSON.parse(text).id}`, key);
  }
}

async function streams(key: string): Promise<void> {
  const held: Socket[] = [];
  while (isOn()) {
    const socket = await open();
    socket?.pause();
    socket?.write(bytes(held.length % 2 === 0 ? "/gpu/events" : "/gpu/readings", key));
    if (socket !== null) held.push(socket);
    count("streams");
    await sleep(20);
    if (held.length > 400) held.shift()?.destroy();
  }
  for (const socket of held) socket.destroy();
}

async function floods(path: string, key: string | null): Promise<void> {
  while (isOn()) {
    const answers = await Promise.all(Array.from({ length: 8 }, () => call("GET", path, key)));
    for (const { status } of answers) count(status === 429 ? "calls told to wait" : "calls");
  }
}

async function rubbish(): Promise<void> {
  while (isOn()) {
    const socket = await open();
    socket?.write(Buffer.from(Array.from({ length: 2_000 }, () => Math.floor(Math.random() * 256))));
    count("rubbish");
    await sleep(20);
    socket?.destroy();
  }
}

const silent = createServer(() => undefined).listen(0, "0.0.0.0");
await new Promise((resolve) => silent.once("listening", resolve));
const [a = "", b = "", c = "", d = "", e = ""] = keys;
const { port: silentPort } = silent.address() as AddressInfo;
await Promise.all([
  pipelines("/docs/swagger-ui-bundle.js", null),
  pipelines("/openapi.json", null),
  pipelines("/gpu/allocations?limit=500", a),
  pipelines("/gpu/list", b),
  pipelines("/metrics", null),
  crowds(),
  crowds(),
  guesses(),
  guesses(),
  webhooks(a, silentPort),
  webhooks(b, silentPort),
  webhooks(c, silentPort),
  webhooks(d, silentPort),
  streams(c),
  streams(e),
  floods("/gpu/status", d),
  floods("/gpu/list", e),
  floods("/metrics", null),
  rubbish(),
  rubbish(),
]);
process.stdout.write(`${JSON.stringify(done)}\n`);
process.exit(0);
