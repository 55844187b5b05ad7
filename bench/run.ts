/** Measures what design.md's "What fast means here" names, in one run, and writes bench/RESULTS.md. */
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseNvidiaSmiInTurns } from "../src/monitor/nvidia-smi/parse.ts";
import { smiDocument } from "../test/fixtures/nvidia-smi-document.ts";
import { measureBackfill, measureDecision, measureGrant } from "./decision.ts";
import { median, quantile } from "./measure.ts";
import { cpuMs, type LoadFigure, load, residentMib, type Served, serveBare, serveDaemon } from "./processes.ts";

const QUICK = process.argv.includes("--quick");
const LOAD_SECONDS = QUICK ? 2 : 5;
const ROUNDS = QUICK ? 1 : 3;
const IDLE_SECONDS = QUICK ? 5 : 30;
const GRANTS = QUICK ? 100 : 500;
const STARTS = QUICK ? 3 : 9;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const lines: string[] = [];
const say = (line = "") => {
  lines.push(line);
  console.log(line);
};
const ms = (value: number) => `${value.toFixed(1)} ms`;

async function post(server: Served, path: string, body: object): Promise<string> {
  const answer = await fetch(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return answer.text();
}

async function untilReady(server: Served): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if ((await fetch(`${server.url}/readyz`)).status === 200) return;
    await sleep(25);
  }
  throw new Error("the daemon did not get ready");
}

async function cycles(): Promise<void> {
  const daemon = await serveDaemon(64);
  await untilReady(daemon);
  const granted = await post(daemon, "/gpu/allocate", { service_name: "bench", workload_type: "inference" });
  const released = await post(daemon, "/gpu/release", { allocation_id: JSON.parse(granted).id });
  const bare = await serveBare({ "/gpu/allocate": granted, "/gpu/release": released });
  say("## Durable allocate + release, beside bare `node:http`");
  say();
  say("64 GPUs; each connection has one request under way. The bare server parses the same bodies and answers the");
  say(`same bytes, and stores nothing. ${ROUNDS} rounds of ${LOAD_SECONDS} s in turn; medians.`);
  say();
  say(
    "| connections | daemon, requests/s | cycles/s | bare, requests/s | ratio | CPU a request | bare CPU | cycle p50 | p99 |",
  );
  say("|---|---|---|---|---|---|---|---|---|");
  for (const connections of [1, 8, 64]) {
    const ours: LoadFigure[] = [];
    const theirs: LoadFigure[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      theirs.push(await load(bare, connections, LOAD_SECONDS));
      ours.push(await load(daemon, connections, LOAD_SECONDS));
    }
    if (ours.some(({ refused }) => refused > 0)) throw new Error("the daemon refused requests of the bench");
    const of = (figures: LoadFigure[], key: keyof LoadFigure) => median(figures.map((figure) => figure[key]));
    const rate = of(ours, "requestsPerSecond");
    const bareRate = of(theirs, "requestsPerSecond");
    say(
      `| ${connections} | ${rate.toFixed(0)} | ${(rate / 2).toFixed(0)} | ${bareRate.toFixed(0)} | ${(rate / bareRate).toFixed(2)} | ${of(ours, "cpuUsPerRequest").toFixed(0)} us | ${of(theirs, "cpuUsPerRequest").toFixed(0)} us | ${of(ours, "p50Ms").toFixed(2)} ms | ${of(ours, "p99Ms").toFixed(2)} ms |`,
    );
  }
  say();
  await bare.stop();
  await daemon.stop();
}

async function releaseToGrant(): Promise<void> {
  const daemon = await serveDaemon(1);
  await untilReady(daemon);
  let arrived: (body: { request_id: string }) => void = () => undefined;
  const receiver = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk) => {
      text += chunk;
    });
    request.on("end", () => {
      response.end();
      const body = JSON.parse(text);
      if (body.status === "allocated") arrived(body);
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  const hook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
  let holder = JSON.parse(await post(daemon, "/gpu/allocate", { service_name: "bench" })).id;
  const times: number[] = [];
  for (let i = 0; i < GRANTS; i++) {
    const waiting = JSON.parse(await post(daemon, "/gpu/allocate", { service_name: "bench", webhook_url: hook })).id;
    const granted = new Promise<void>((resolve) => {
      arrived = ({ request_id }) => {
        if (request_id === waiting) resolve();
      };
    });
    const begun = performance.now();
    const released = post(daemon, "/gpu/release", { allocation_id: holder });
    await granted;
    times.push(performance.now() - begun);
    await released;
    holder = waiting;
  }
  say("## From a release to the next waiter's grant");
  say();
  say(`From sending the release to the arrival of the waiting client's webhook, ${GRANTS} times:`);
  say(`p50 ${ms(quantile(times, 0.5))}, p99 ${ms(quantile(times, 0.99))}, largest ${ms(quantile(times, 1))}.`);
  say();
  receiver.closeAllConnections();
  receiver.close();
  await daemon.stop();
}

function decisions(): void {
  say("## One decision");
  say();
  say("In process, nothing stored. All GPUs are leased; the waiting requests differ in memory and priority.");
  say();
  say("| GPUs | waiting | a release and the grant after it | a request that must queue |");
  say("|---|---|---|---|");
  for (const gpus of [8, 64, 1_024]) {
    for (const waiting of [100, 10_000, 100_000]) {
      const figure = measureDecision(gpus, waiting);
      say(`| ${gpus} | ${waiting} | ${figure.releaseUs.toFixed(1)} us | ${figure.submitUs.toFixed(1)} us |`);
    }
  }
  say();
  say(
    "The head waits for all GPUs, one of which comes free: it is held, and lent to the first whose `max_duration` lets it.",
  );
  say(
    "*Adverse*: half of those behind are too large and half would last too long, so that nobody can be served and the",
  );
  say("search has to look at each. Beside it, the estimates for the first hundred in line.");
  say();
  say("| GPUs | waiting | behind the head | the release | a hundred estimates |");
  say("|---|---|---|---|---|");
  for (const [gpus, waiting, behind] of [
    [8, 100, "mixed"],
    [8, 10_000, "mixed"],
    [8, 100_000, "mixed"],
    [64, 10_000, "mixed"],
    [1_024, 10_000, "mixed"],
    [8, 100, "adverse"],
    [8, 10_000, "adverse"],
  ] as const) {
    const { releaseUs, forecastUs } = measureBackfill(gpus, waiting, behind);
    say(`| ${gpus} | ${waiting} | ${behind} | ${releaseUs.toFixed(1)} us | ${forecastUs.toFixed(0)} us |`);
  }
  say();
  say("All GPUs are free, connected by NVSwitches and beside two sockets; a request for so many is granted at once.");
  say();
  say("| GPUs | asked for | a request and its grant |");
  say("|---|---|---|");
  for (const gpus of [8, 16, 64]) {
    for (const count of [1, 2, gpus / 2]) {
      say(`| ${gpus} | ${count} | ${measureGrant(gpus, count).toFixed(1)} us |`);
    }
  }
  say();
}

async function readings(): Promise<void> {
  say("## One reading");
  say();
  for (const count of [8, 16]) {
    const bytes = Buffer.from(smiDocument({ gpus: Array.from({ length: count }, () => ({})) }));
    const times: number[] = [];
    for (let i = 0; i < 60; i++) {
      const begun = performance.now();
      const result = await parseNvidiaSmiInTurns(bytes);
      times.push(performance.now() - begun);
      if (!result.ok) throw new Error(result.error.message);
    }
    say(`Parsing ${count} GPUs (${(bytes.length / 1_024).toFixed(0)} KiB): median ${ms(median(times.slice(10)))}.`);
  }
  say();
}

async function starts(): Promise<void> {
  const times: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    const daemon = await serveDaemon("simulated");
    times.push(daemon.startMs);
    await daemon.stop();
  }
  const daemon = await serveDaemon("simulated");
  const pid = daemon.process.pid as number;
  await sleep(3_000);
  const before = cpuMs(pid);
  await sleep(IDLE_SECONDS * 1_000);
  const share = (cpuMs(pid) - before) / (IDLE_SECONDS * 1_000);
  say("## Start and idle");
  say();
  say(
    `From starting the process to listening: median ${ms(median(times))} of ${STARTS} starts (largest ${ms(quantile(times, 1))}).`,
  );
  say(
    `Idle with eight simulated GPUs at the default interval: ${residentMib(pid).toFixed(0)} MiB resident, ${(share * 100).toFixed(2)} % of a core over ${IDLE_SECONDS} s.`,
  );
  say();
  await daemon.stop();
}

say("# Benchmarks");
say();
say(
  `Made by \`npm run bench\` on a shared virtual machine: ${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}.`,
);
say("The machine is noisy: read ratios, and figures as +-20 %.");
say();
await cycles();
await releaseToGrant();
decisions();
await readings();
await starts();
if (!QUICK) writeFileSync(fileURLToPath(new URL("RESULTS.md", import.meta.url)), `${lines.join("\n").trimEnd()}\n`);
