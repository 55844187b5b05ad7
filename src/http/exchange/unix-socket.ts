/**
 * A unix socket beside the port, for users of this host. Each connection is handed to the HTTP server once it is known
 * who is at its other end (peers.ts).
 */

import { chmodSync, mkdirSync, statSync, unlinkSync } from "node:fs";
import type { IncomingMessage, RequestListener, ServerOptions } from "node:http";
import type { Server, Socket } from "node:net";
import { dirname } from "node:path";
import type { Connections } from "./connections.ts";
import type { Peers } from "./peers.ts";

const http = process.getBuiltinModule("node:http");
const net = process.getBuiltinModule("node:net");

/** Everybody on the host may connect: what they may do follows from who they are. */
const MODE = 0o666;

export class UnixSocket {
  readonly #server: ReturnType<typeof http.createServer>;
  readonly #accepting: Server;
  readonly #peers: Peers;

  constructor(options: ServerOptions, listener: RequestListener, connections: Connections, peers: Peers) {
    this.#peers = peers;
    const proven = proving(peers, listener);
    this.#server = http.createServer(options, proven);
    this.#server.on("connection", (socket: Socket) => connections.opened(socket));
    this.#server.on("checkExpectation", proven);
    this.#server.on("clientError", (error, socket) => connections.refuse(error, socket));
    this.#accepting = net.createServer({ pauseOnConnect: true }, (socket) => void this.#accept(socket));
  }

  /**
   * A file that a dead daemon left there is replaced.
   *
   * @throws Error when the path is in use, or is something else than a socket; PeersError.
   */
  async listen(path: string): Promise<void> {
    mkdirSync(dirname(path), { recursive: true });
    await this.#peers.check(path);
    if (await isDead(path)) unlinkSync(path);
    await new Promise<void>((resolve, reject) => {
      this.#accepting.once("error", reject);
      this.#accepting.listen({ path }, () => {
        this.#accepting.off("error", reject);
        resolve();
      });
    });
    chmodSync(path, MODE);
    // Node looks for requests that do not become whole from then on, and this server never listens by itself.
    this.#server.emit("listening");
  }

  /** Takes no further connections; those that there are end as the others do. */
  close(): void {
    this.#accepting.close();
  }

  /** When nobody is served any more. */
  closeAll(): void {
    this.#server.closeAllConnections();
    this.#server.close();
    this.#peers.close();
  }

  async #accept(socket: Socket): Promise<void> {
    // One that hangs up while it is looked at is no bug.
    socket.on("error", () => socket.destroy());
    const isKnown = await this.#peers.identify(socket).catch(() => false);
    if (!isKnown || socket.destroyed) {
      socket.destroy();
      return;
    }
    this.#server.emit("connection", socket);
    socket.resume();
  }
}

/** A proof is looked at before its request is. */
function proving(peers: Peers, listener: RequestListener): RequestListener {
  return (req, res) => {
    const proof = proofOf(req);
    const isFirst = proof === null && peers.of(req.socket) !== "not-now";
    if (isFirst || !peers.isToProve(req.socket)) return listener(req, res);
    void peers.prove(req.socket, proof).then(() => {
      if (!req.socket.destroyed) listener(req, res);
    });
  };
}

/** `null`: it brings none. */
export function proofOf({ headers }: IncomingMessage): string | null {
  const proof = headers["gpu-orchestrator-proof"];
  return typeof proof === "string" ? proof : null;
}

/** Whether there is a socket at `path` at which nobody listens. */
async function isDead(path: string): Promise<boolean> {
  if (statSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return false;
  return new Promise((resolve) => {
    const probe = net.connect({ path });
    probe.once("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
}
