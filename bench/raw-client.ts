/** HTTP as thin as can be, over one plain socket: what a client costs must not be what is measured. */
import { connect } from "node:net";

const HEAD_END = Buffer.from("\r\n\r\n");

export interface RawAnswer {
  readonly status: number;
  readonly body: Buffer;
}

export function rawRequest(port: number, method: string, path: string, body: string | null): Buffer {
  const head = `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n`;
  if (body === null) return Buffer.from(`${head}\r\n`);
  const fields = `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
  return Buffer.from(`${head}${fields}${body}`);
}

/** A connection that carries one request at a time; each answer must have a `Content-Length`. */
export class RawConnection {
  readonly #socket;
  readonly #port: number;
  #pending: Buffer = Buffer.alloc(0);
  #answered: (answer: RawAnswer) => void = () => undefined;

  /** @param onError hears when the connection breaks. */
  constructor(port: number, onError: (error: Error) => void) {
    this.#port = port;
    this.#socket = connect(port, "127.0.0.1");
    this.#socket.setNoDelay(true);
    this.#socket.on("error", onError);
    this.#socket.on("data", (chunk) => this.#read(chunk));
  }

  /** @param answered is called from the socket's event: no promise stands between the last byte and it. */
  send(request: Buffer, answered: (answer: RawAnswer) => void): void {
    this.#answered = answered;
    this.#socket.write(request);
  }

  ask(method: string, path: string, body: object | null): Promise<RawAnswer> {
    return new Promise((resolve) => {
      this.send(rawRequest(this.#port, method, path, body === null ? null : JSON.stringify(body)), resolve);
    });
  }

  end(): void {
    this.#socket.end();
  }

  #read(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const headEnd = this.#pending.indexOf(HEAD_END);
    if (headEnd < 0) return;
    const head = this.#pending.toString("latin1", 0, headEnd);
    const total = headEnd + HEAD_END.length + Number(/content-length: (\d+)/i.exec(head)?.[1]);
    if (this.#pending.length < total) return;
    const body = this.#pending.subarray(headEnd + HEAD_END.length, total);
    this.#pending = this.#pending.subarray(total);
    this.#answered({ status: Number(head.slice(9, 12)), body });
  }
}
