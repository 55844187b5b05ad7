/** A reader of server-sent events that takes them apart as they come, by WHATWG HTML, section 9.2.6. */
import { type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { onTestFinished, vi } from "vitest";

export interface Message {
  readonly id: string;
  readonly event: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks at whatever is there.
  readonly data: any;
}

export class StreamReader {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly messages: Message[] = [];
  readonly comments: string[] = [];
  /** What a client would send as Last-Event-ID, were it to come back now. */
  lastId = "";
  retryMs: number | null = null;
  /** Everything so far. */
  text = "";
  hasEnded = false;
  /** Settles when no more can come: true when the answer was whole. */
  readonly ended: Promise<boolean>;
  readonly #response: IncomingMessage;

  constructor(response: IncomingMessage) {
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.#response = response;
    let rest = "";
    response.setEncoding("utf8").on("data", (chunk: string) => {
      this.text += chunk;
      const blocks = (rest + chunk).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) this.#take(block);
    });
    response.on("error", () => undefined);
    this.ended = new Promise((resolve) => {
      response.once("close", () => {
        this.hasEnded = true;
        resolve(response.complete);
      });
    });
  }

  get ids(): number[] {
    return this.messages.map(({ id }) => Number(id));
  }

  get types(): string[] {
    return this.messages.map(({ event }) => event);
  }

  /** Waits until it is so. */
  until(isSo: (reader: this) => boolean, timeout = 20_000): Promise<void> {
    return vi.waitFor(
      () => {
        if (!isSo(this)) throw new Error(`not yet, after ${this.messages.length} messages: ${this.text.slice(-500)}`);
      },
      { timeout, interval: 5 },
    );
  }

  close(): void {
    this.#response.destroy();
  }

  #take(block: string): void {
    let event = "message";
    let data: string | null = null;
    for (const line of block.split("\n")) {
      const [, name = "", value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
      if (name === "") this.comments.push(value);
      else if (name === "id") this.lastId = value;
      else if (name === "event") event = value;
      else if (name === "data") data = data === null ? value : `${data}\n${value}`;
      else if (name === "retry") this.retryMs = Number(value);
      else throw new Error(`no such field: ${line}`);
    }
    if (data !== null) this.messages.push({ id: this.lastId, event, data: JSON.parse(data) });
  }
}

export interface StreamAsk {
  readonly lastEventId?: number | string;
  /** `/gpu/events` when left out. */
  readonly path?: string;
  readonly query?: string;
  readonly headers?: Record<string, string>;
}

/** Opens the stream on a connection of its own; closed when the test ends. */
export function readEvents(
  port: number,
  { lastEventId, path = "/gpu/events", query = "", headers = {} }: StreamAsk = {},
) {
  const asked = lastEventId === undefined ? headers : { ...headers, "Last-Event-ID": String(lastEventId) };
  return new Promise<StreamReader>((resolve, reject) => {
    const outgoing = request({ host: "127.0.0.1", port, path: path + query, headers: asked, agent: false });
    outgoing.on("response", (response) => {
      const reader = new StreamReader(response);
      onTestFinished(() => reader.close());
      resolve(reader);
    });
    outgoing.on("error", reject);
    outgoing.end();
  });
}
