/** What stands between a controller and an apiserver, and can be made to behave badly. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Agent, request } from "node:https";
import type { AddressInfo } from "node:net";

export interface Refusal {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: object | string;
}

export class FaultyProxy {
  readonly #target: string;
  readonly #agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  readonly #server = createServer((req, res) => this.#pass(req, res));
  readonly #watches = new Set<{ readonly from: IncomingMessage; readonly to: ServerResponse }>();
  /** What is answered instead of the apiserver's word; `null`: that. */
  refuses: (req: IncomingMessage) => Refusal | null = () => null;
  refused = 0;

  /** @param target is the apiserver's URL. */
  constructor(target: string) {
    this.#target = target;
  }

  async start(): Promise<string> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#agent.destroy();
    await new Promise((closed) => this.#server.close(closed));
  }

  /** Watches that are open say nothing more, and are not closed. Those that are opened afterwards are well. */
  freezeWatches(): number {
    const frozen = this.#watches.size;
    for (const { from, to } of this.#watches) {
      from.unpipe(to);
      from.pause();
    }
    this.#watches.clear();
    return frozen;
  }

  /** Watches that are open break off. */
  cutWatches(): void {
    for (const { to } of this.#watches) to.destroy();
  }

  #pass(req: IncomingMessage, res: ServerResponse): void {
    const refusal = this.refuses(req);
    if (refusal !== null) {
      this.refused++;
      const { status, headers = {}, body } = refusal;
      req.resume();
      res.writeHead(status, { "content-type": "application/json", ...headers });
      res.end(typeof body === "string" ? body : JSON.stringify(body));
      return;
    }
    const { method = "GET", url = "/", headers } = req;
    const forwarded = request(this.#target + url, { method, headers, agent: this.#agent }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      res.flushHeaders();
      if (url.includes("watch=true")) {
        const watch = { from: answer, to: res };
        this.#watches.add(watch);
        res.once("close", () => {
          this.#watches.delete(watch);
          answer.destroy();
        });
      }
      answer.pipe(res);
      answer.on("error", () => res.destroy());
    });
    forwarded.on("error", () => res.destroy());
    res.once("close", () => forwarded.destroy());
    req.pipe(forwarded);
  }
}

export const conflict = (): Refusal => ({
  status: 409,
  body: { kind: "Status", status: "Failure", reason: "Conflict", code: 409, message: "the object has been modified" },
});

/** As API priority and fairness says it: in plain text. */
export const tooMany = (): Refusal => ({
  status: 429,
  headers: { "retry-after": "1", "content-type": "text/plain" },
  body: "Too many requests, please try again later.\n",
});
