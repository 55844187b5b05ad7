/**
 * Many readers of the event stream as a process of their own, so that what they cost is not counted as the daemon's.
 * Told by its parent from where on and up to which number to read, it answers with what came.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface Task {
  readonly port: number;
  readonly readers: number;
  readonly lastEventId: number;
}

/** What all readers together were given. */
export interface Given {
  readonly events: number;
  /** Events whose number is not that of the one before and one. */
  readonly outOfOrder: number;
}

const ID = /^id: (\d+)$/gm;

class Reader {
  readonly socket: Socket;
  last: number;
  events = 0;
  outOfOrder = 0;
  #rest = "";

  constructor({ port, lastEventId }: Task) {
    this.last = lastEventId;
    this.socket = connect({ host: "127.0.0.1", port, noDelay: true });
    // Without chunks, in which a line could be cut in two.
    this.socket.write(`GET /gpu/events HTTP/1.0\r\nHost: localhost\r\nLast-Event-ID: ${lastEventId}\r\n\r\n`);
    this.socket.setEncoding("latin1").on("data", (chunk: string) => this.#take(this.#rest + chunk));
  }

  #take(text: string): void {
    const whole = text.lastIndexOf("\n") + 1;
    this.#rest = text.slice(whole);
    for (const [, id] of text.slice(0, whole).matchAll(ID)) {
      // The number from which it goes on.
      if (this.events === 0 && Number(id) === this.last) continue;
      this.events++;
      if (Number(id) !== this.last + 1) this.outOfOrder++;
      this.last = Number(id);
    }
  }
}

async function main(): Promise<void> {
  const [task] = (await once(process, "message")) as [Task];
  const readers = Array.from({ length: task.readers }, () => new Reader(task));
  await Promise.all(readers.map(({ socket }) => once(socket, "connect")));
  process.send?.("open");
  process.on("message", async (upTo: number) => {
    while (readers.some(({ last }) => last < upTo)) await new Promise((resolve) => setTimeout(resolve, 5));
    const sum = (of: (reader: Reader) => number) => readers.reduce((all, reader) => all + of(reader), 0);
    const given: Given = { events: sum(({ events }) => events), outOfOrder: sum(({ outOfOrder }) => outOfOrder) };
    process.send?.(given);
  });
}

await main();
