/** Clients that write their bytes themselves. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";

export const HOST = "Host: localhost\r\n";
export const CLOSE = `${HOST}Connection: close\r\n`;

export interface Peer {
  readonly socket: Socket;
  /** Everything received until the other side closed. */
  readonly ended: Promise<string>;
}

export async function open(port: number): Promise<Peer> {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk;
  });
  // A reset after the answer is as good an end as any.
  socket.on("error", () => undefined);
  const ended = new Promise<string>((resolve) => {
    socket.on("end", () => resolve(text));
    socket.on("close", () => resolve(text));
  });
  await once(socket, "connect");
  return { socket, ended };
}

export async function exchange(port: number, bytes: string): Promise<string> {
  const peer = await open(port);
  peer.socket.write(bytes, "latin1");
  return peer.ended;
}

/** The answers in what a connection brought, each with its status and, for problems, its code. */
export function answersIn(text: string): (readonly [number, string | null])[] {
  const found: (readonly [number, string | null])[] = [];
  for (let rest = text; rest !== ""; ) {
    const head = /^HTTP\/1\.1 (\d{3}) .*\r\n(?:.+\r\n)*?(?:content-length: (\d+)\r\n)(?:.+\r\n)*\r\n/i.exec(rest);
    if (head === null) throw new Error(`no answer: ${rest}`);
    const body = rest.slice(head[0].length, head[0].length + Number(head[2]));
    const isProblem = /content-type: application\/problem\+json/i.test(head[0]);
    found.push([Number(head[1]), isProblem ? JSON.parse(body).code : null]);
    rest = rest.slice(head[0].length + Number(head[2]));
  }
  return found;
}

/** A POST to allocate, as bytes. */
export function allocateRequest(body: object = {}, headers = ""): string {
  const text = JSON.stringify({ service_name: "trainer", ...body });
  return `POST /gpu/allocate HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${headers}Content-Length: ${text.length}\r\n\r\n${text}`;
}
