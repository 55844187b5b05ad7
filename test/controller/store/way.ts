import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";

/** A way to the server that can be cut, and be slow. */
export class Way {
  isCut = false;
  delayMs = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => {
    if (this.isCut) return void socket.destroy();
    const there = connect(this.#to, "127.0.0.1");
    for (const one of [socket, there]) {
      this.#sockets.add(one);
      one.on("error", () => undefined).on("close", () => [socket, there].map((each) => each.destroy()));
    }
    socket.on("data", (data) => there.write(data));
    there.on("data", (data) => setTimeout(() => socket.write(data), this.delayMs));
  });
  readonly #to: number;

  constructor(to: number) {
    this.#to = to;
  }

  async open(): Promise<number> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
    return (this.#server.address() as AddressInfo).port;
  }

  cut(): void {
    this.isCut = true;
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((closed) => this.#server.close(closed));
  }
}
