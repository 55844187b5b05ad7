/** Allocates and releases as fast as it is answered, on so many connections. A process of its own; prints one line of JSON. */
import { type RawAnswer, RawConnection, rawRequest } from "./raw-client.ts";

const [port = 0, connections = 0, seconds = 0] = process.argv.slice(2).map(Number);
const WARM_UP_MS = 1_000;

const ALLOCATE = rawRequest(
  port,
  "POST",
  "/gpu/allocate",
  JSON.stringify({
    service_name: "bench",
    workload_type: "inference",
    workload_data: {
      model_size: "small",
      batch_size: 8,
      concurrent_requests: 4,
      purpose: "a request of about 200 bytes",
    },
    priority: 5,
  }),
);

let measuring = false;
let stopped = false;
let all = 0;
let requests = 0;
let refused = 0;
const cycleMs: number[] = [];

function run(): void {
  const connection = new RawConnection(port, (error) => {
    console.error(error.message);
    process.exit(1);
  });
  let begun = performance.now();
  const count = ({ status }: RawAnswer) => {
    all++;
    if (measuring) requests++;
    if (status !== 200) refused++;
  };
  const allocate = () => {
    begun = performance.now();
    connection.send(ALLOCATE, (answer) => {
      count(answer);
      const text = answer.body.toString("latin1");
      const at = text.indexOf('"allocation_id":"') + 17;
      const id = text.slice(at, text.indexOf('"', at));
      connection.send(rawRequest(port, "POST", "/gpu/release", `{"allocation_id":"${id}"}`), released);
    });
  };
  const released = (answer: RawAnswer) => {
    count(answer);
    if (measuring) cycleMs.push(performance.now() - begun);
    if (stopped) connection.end();
    else allocate();
  };
  allocate();
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
    const figure = { requestsPerSecond: requests / elapsedS, refused, p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
    setTimeout(() => {
      console.log(JSON.stringify({ ...figure, all }));
      process.exit(0);
    }, 200);
  }, seconds * 1_000);
}, WARM_UP_MS);
