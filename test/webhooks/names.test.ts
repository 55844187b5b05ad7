import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { sharedLookup } from "../../src/webhooks/names.ts";

/** A name server that answers for `known`, with one IPv4 address each, that there is nothing else below `.test`, and never for `.silent`. */
async function nameServer(known: Readonly<Record<string, string>>): Promise<{ address: string; asked: string[] }> {
  const socket = createSocket("udp4");
  const asked: string[] = [];
  socket.on("message", (query, peer) => {
    const { name, end } = questionOf(query);
    const isV4 = query.readUInt16BE(end - 4) === 1;
    if (isV4) asked.push(name);
    if (name.endsWith(".silent")) return;
    const address = known[name];
    const hasAnswer = address !== undefined && isV4;
    const head = Buffer.from(query.subarray(0, end));
    head.writeUInt16BE(address === undefined ? 0x8183 : 0x8180, 2);
    head.writeUInt16BE(hasAnswer ? 1 : 0, 6);
    head.writeUInt16BE(0, 8);
    head.writeUInt16BE(0, 10);
    const record = Buffer.from([
      0xc0,
      12,
      0,
      1,
      0,
      1,
      0,
      0,
      0,
      1,
      0,
      4,
      ...(address ?? "0.0.0.0").split(".").map(Number),
    ]);
    socket.send(hasAnswer ? Buffer.concat([head, record]) : head, peer.port, peer.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  onTestFinished(() => void socket.close());
  return { address: `127.0.0.1:${socket.address().port}`, asked };
}

function questionOf(query: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] as number; length > 0; length = query[at] as number) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join(".").toLowerCase(), end: at + 5 };
}

test("sixty names that nobody answers for do not keep another name waiting", async () => {
  const server = await nameServer({ "hooks.test": "192.0.2.7" });
  const lookup = sharedLookup({ servers: [server.address], readFile: () => "" });
  const silent = Array.from({ length: 60 }, (_, i) => lookup(`host-${i}.silent`).catch(() => "failed"));
  const first = await Promise.race([lookup("hooks.test"), ...silent]);
  expect(first).toEqual([{ address: "192.0.2.7", family: 4 }]);
  expect(await Promise.all(silent)).toEqual(silent.map(() => "failed"));
}, 20_000);

test("/etc/hosts comes first, localhost is loopback, and a short name is tried with the search domains", async () => {
  const server = await nameServer({ "receiver.team.test": "192.0.2.8", "hooks.test": "192.0.2.7" });
  const files: Record<string, string> = {
    "/etc/hosts": "10.0.0.1 gateway gateway.local # the router\nfd00::1 gateway\n",
    "/etc/resolv.conf": "nameserver 192.0.2.1\nsearch nowhere.test team.test\noptions ndots:1\n",
  };
  const lookup = sharedLookup({ servers: [server.address], readFile: (path) => files[path] ?? "" });
  expect(await lookup("Gateway")).toEqual([
    { address: "10.0.0.1", family: 4 },
    { address: "fd00::1", family: 6 },
  ]);
  expect(await lookup("api.localhost")).toEqual([
    { address: "127.0.0.1", family: 4 },
    { address: "::1", family: 6 },
  ]);
  expect(await lookup("receiver")).toEqual([{ address: "192.0.2.8", family: 4 }]);
  expect(await lookup("hooks.test")).toEqual([{ address: "192.0.2.7", family: 4 }]);
  expect(server.asked).toEqual(["receiver.nowhere.test", "receiver.team.test", "hooks.test"]);
  await expect(lookup("missing.test")).rejects.toMatchObject({ code: "ENOTFOUND" });
});
