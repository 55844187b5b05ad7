/**
 * A thousand clients as a process of their own, so that what they cost is not counted as the daemon's. Told by its
 * parent what to do, it answers with the times, in ms, from a release that was sent to each answer that it brought.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface Task {
  readonly port: number;
  /** The requests to send, each on a connection of its own. */
  readonly requests: readonly string[];
}

/** Ends this lease, and with `cascade` also each that is granted thereupon, once its client has it. */
export interface Go {
  readonly release: string;
  readonly cascade: boolean;
}

const HEAD_END = "\r\n\r\n";

async function open(port: number): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port, noDelay: true });
  await once(socket, "connect");
  return socket;
}

/** The body of the next answer, and when it was whole. */
function nextAnswer(socket: Socket): Promise<{ readonly body: string; readonly at: number }> {
  return new Promise((resolve, reject) => {
    let text = "";
    const read = (chunk: Buffer) => {
      text += chunk.toString();
      const from = text.indexOf(HEAD_END) + HEAD_END.length;
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
      if (from < HEAD_END.length || text.length < from + length) return;
      socket.off("data", read);
      resolve({ body: text.slice(from), at: performance.now() });
    };
    socket.on("data", read);
    socket.once("close", () => reject(new Error(`closed after ${JSON.stringify(text)}`)));
  });
}

async function main(): Promise<void> {
  const [{ port, requests }] = (await once(process, "message")) as [Task];
  const sockets: Socket[] = [];
  for (let i = 0; i < requests.length; i++) sockets.push(await open(port));
  const releaser = await open(port);
  let releasedAt = 0;
  const release = (id: string) => {
    releasedAt = performance.now();
    releaser.write(`DELETE /gpu/allocations/${id} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  };
  let cascade = false;
  const latenciesMs = sockets.map(async (socket, i) => {
    socket.write(requests[i] as string);
    const { body, at } = await nextAnswer(socket);
    const tookMs = at - releasedAt;
    const { id, status } = JSON.parse(body);
    if (status !== "allocated" && status !== "leased") throw new Error(`not granted: ${body}`);
    if (cascade) release(id);
    return tookMs;
  });
  releaser.resume();
  process.send?.("sent");
  const [go] = (await once(process, "message")) as [Go];
  cascade = go.cascade;
  release(go.release);
  process.send?.(await Promise.all(latenciesMs));
  process.disconnect();
  for (const socket of [...sockets, releaser]) socket.destroy();
}

await main();
