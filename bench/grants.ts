/** From a release to the webhook of the request that waited for it, both ends plain sockets; and a page of waiting requests. */
import { createServer, type Socket } from "node:net";
import { quantile } from "./measure.ts";
import { cpuMs, type Served, serveDaemon, untilReady } from "./processes.ts";
import { RawConnection } from "./raw-client.ts";
import { type Report, row } from "./report.ts";
import type { Tree } from "./trees.ts";

const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const WARM_UP = 100;
const PAGE = 1_000;
const PAGES = 30;
/** Pages that are asked for before any counts: past the just-in-time compiler. */
const FIRST_PAGES = 10;

/** A receiver of webhooks that is no HTTP server: it knows where a request of ours ends, and little else. */
class Receiver {
  readonly #server = createServer((socket) => this.#serve(socket));
  readonly #waiting = new Map<string, () => void>();

  listen(): Promise<string> {
    return new Promise((resolve) => {
      this.#server.listen(0, "127.0.0.1", () => {
        const address = this.#server.address();
        if (address !== null && typeof address !== "string") resolve(`http://127.0.0.1:${address.port}/`);
      });
    });
  }

  /** Settles when the grant of `id` has arrived. */
  granted(id: string): Promise<void> {
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  close(): void {
    this.#server.close();
  }

  #serve(socket: Socket): void {
    let pending = "";
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      pending += chunk.toString("latin1");
      for (;;) {
        const headEnd = pending.indexOf("\r\n\r\n");
        if (headEnd < 0) return;
        const end = headEnd + 4 + Number(/content-length: (\d+)/i.exec(pending.slice(0, headEnd))?.[1]);
        if (pending.length < end) return;
        const { status, request_id } = JSON.parse(pending.slice(headEnd + 4, end));
        pending = pending.slice(end);
        socket.write(ANSWER);
        if (status === "allocated") this.#waiting.get(request_id)?.();
        this.#waiting.delete(request_id);
      }
    });
  }
}

interface Side {
  readonly daemon: Served;
  readonly connection: RawConnection;
  readonly times: number[];
  holder: string;
}

export async function measureReleaseToGrant(report: Report, trees: readonly Tree[], grants: number): Promise<void> {
  const receiver = new Receiver();
  const hook = await receiver.listen();
  const sides: Side[] = [];
  for (const tree of trees) {
    const daemon = await serveDaemon(tree, { gpus: 1 });
    await untilReady(daemon);
    const connection = new RawConnection(daemon.port, (error) => {
      throw error;
    });
    const { body } = await connection.ask("POST", "/gpu/allocate", { service_name: "bench" });
    sides.push({ daemon, connection, times: [], holder: JSON.parse(body.toString()).id });
  }
  for (let i = 0; i < WARM_UP + grants; i++) {
    for (const side of sides) {
      const took = await oneGrant(side, receiver, hook);
      if (i >= WARM_UP) side.times.push(took);
    }
  }
  report.table("build", "p50", "p90", "p99", "largest");
  for (const { daemon, times, connection } of sides) {
    const at = (q: number) => `${quantile(times, q).toFixed(2)} ms`;
    report.note("grant p50", daemon.name, quantile(times, 0.5));
    report.note("grant p99", daemon.name, quantile(times, 0.99));
    report.say(row(daemon.name, at(0.5), at(0.9), at(0.99), at(1)));
    connection.end();
    await daemon.stop();
  }
  receiver.close();
}

async function oneGrant(side: Side, receiver: Receiver, hook: string): Promise<number> {
  const asked = await side.connection.ask("POST", "/gpu/allocate", { service_name: "bench", webhook_url: hook });
  const { id } = JSON.parse(asked.body.toString());
  const granted = receiver.granted(id);
  const begun = performance.now();
  const released = side.connection.ask("POST", "/gpu/release", { allocation_id: side.holder });
  await granted;
  const took = performance.now() - begun;
  await released;
  side.holder = id;
  return took;
}

/** What a page of so many waiting records costs the daemon. */
export async function measurePage(report: Report, trees: readonly Tree[]): Promise<void> {
  report.table("build", `a page of ${PAGE} waiting records: CPU`, "answered after", "bytes");
  for (const tree of trees) {
    const daemon = await serveDaemon(tree, { gpus: 8 });
    await untilReady(daemon);
    const connection = new RawConnection(daemon.port, (error) => {
      throw error;
    });
    const webhook = { webhook_url: "http://127.0.0.1:9/" };
    for (let i = 0; i < PAGE + 8; i++) {
      const body = { service_name: `bench-${i % 20}`, priority: 1 + (i % 10), ...webhook };
      const { status } = await connection.ask("POST", "/gpu/allocate", body);
      if (status >= 300) throw new Error(`${daemon.name} answered ${status}`);
    }
    const cpu: number[] = [];
    const wall: number[] = [];
    let bytes = 0;
    for (let i = 0; i < FIRST_PAGES + PAGES; i++) {
      const before = cpuMs(daemon.pid);
      const begun = performance.now();
      const { body } = await connection.ask("GET", `/gpu/allocations?status=queued&limit=${PAGE}`, null);
      bytes = body.length;
      if (i < FIRST_PAGES) continue;
      wall.push(performance.now() - begun);
      cpu.push(cpuMs(daemon.pid) - before);
    }
    const ms = (values: readonly number[]) => `${quantile(values, 0.5).toFixed(1)} ms`;
    report.say(row(daemon.name, ms(cpu), ms(wall), bytes));
    report.note("page", daemon.name, quantile(wall, 0.5));
    connection.end();
    await daemon.stop();
  }
}
