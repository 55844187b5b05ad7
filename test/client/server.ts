/** A server that answers as a test says and keeps what it was asked: for what the daemon seldom does. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export interface Scripted {
  readonly url: string;
  readonly asked: Asked[];
  readonly close: () => Promise<void>;
}

export type Script = (response: ServerResponse, asked: Asked, count: number) => void;

export async function scripted(script: Script, listenOn: string | number = 0): Promise<Scripted> {
  const asked: Asked[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    const one = { method: request.method ?? "", url: request.url ?? "", headers: request.headers, body };
    asked.push(one);
    script(response, one, asked.length);
  });
  await new Promise<void>((resolve) => {
    if (typeof listenOn === "string") server.listen(listenOn, resolve);
    else server.listen(listenOn, "127.0.0.1", resolve);
  });
  const url =
    typeof listenOn === "string" ? `unix:${listenOn}` : `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const close = () =>
    new Promise<void>((resolve) => {
      server.closeAllConnections();
      server.close(() => resolve());
    });
  return { url, asked, close };
}

export function answer(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}

export function refuse(
  response: ServerResponse,
  status: number,
  code: string,
  headers: Record<string, string> = {},
): void {
  answer(response, status, { code, detail: `refused: ${code}`, title: code, status }, headers);
}
