/**
 * A load client as thin as can be: one request under way per connection, over plain sockets, so that the server and not
 * the client is what is measured. Runs as a process of its own; prints one line of JSON.
 */
import { connect } from "node:net";

const [portText, connectionsText, secondsText] = process.argv.slice(2);
const port = Number(portText);
const connections = Number(connectionsText);
const warmUpMs = 1_000;
const measuredMs = Number(secondsText) * 1_000;

const HEAD_END = Buffer.from("\r\n\r\n");
const allocateBody = JSON.stringify({
  service_name: "bench",
  workload_type: "inference",
  workload_data: {
    model_size: "small",
    batch_size: 8,
    concurrent_requests: 4,
    purpose: "a request of about 200 bytes",
  },
  priority: 5,
});

function post(path: string, body: string): Buffer {
  const head = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\n`;
  return Buffer.from(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}
const allocate = post("/gpu/allocate", allocateBody);

let measuring = false;
let stopped = false;
let requests = 0;
let refused = 0;
const cycleMs: number[] = [];

function run(): void {
  const socket = connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  let pending = Buffer.alloc(0);
  let releasing = false;
  let begun = 0;
  const next = (status: number, body: Buffer) => {
    if (measuring) requests++;
    if (status !== 200) refused++;
    if (stopped && releasing) return void socket.end();
    if (releasing) {
      if (measuring) cycleMs.push(performance.now() - begun);
      releasing = false;
      begun = performance.now();
      socket.write(allocate);
      return;
    }
    const text = body.toString("latin1");
    const at = text.indexOf('"allocation_id":"') + 17;
    releasing = true;
    socket.write(post("/gpu/release", `{"allocation_id":"${text.slice(at, text.indexOf('"', at))}"}`));
  };
  socket.on("data", (chunk) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    const headEnd = pending.indexOf(HEAD_END);
    if (headEnd < 0) return;
    const head = pending.toString("latin1", 0, headEnd);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1]);
    const total = headEnd + HEAD_END.length + length;
    if (pending.length < total) return;
    const body = pending.subarray(headEnd + HEAD_END.length, total);
    pending = pending.subarray(total);
    next(Number(head.slice(9, 12)), body);
  });
  socket.on("error", (error) => {
    console.error(error.message);
    process.exit(1);
  });
  begun = performance.now();
  socket.write(allocate);
}

for (let i = 0; i < connections; i++) run();
setTimeout(() => {
  measuring = true;
  const start = performance.now();
  setTimeout(() => {
    const elapsedS = (performance.now() - start) / 1_000;
    measuring = false;
    stopped = true;
    cycleMs.sort((a, b) => a - b);
    const quantile = (q: number) => cycleMs[Math.floor(cycleMs.length * q)] ?? null;
    console.log(
      JSON.stringify({ requestsPerSecond: requests / elapsedS, refused, p50Ms: quantile(0.5), p99Ms: quantile(0.99) }),
    );
    setTimeout(() => process.exit(0), 200);
  }, measuredMs);
}, warmUpMs);
