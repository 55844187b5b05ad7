/**
 * What one reading costs the daemon, beside `nvidia-smi` itself: the longest pause in which nothing else runs, the
 * processor time, and what one process that prints again and again (`nvidia-smi -l`) would save.
 *
 * `node bench/reading.ts [FILE]`, where FILE is output of `nvidia-smi -q -x`; without it, a made-up one of eight H100s.
 */
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decide } from "../src/core/decisions/decide.ts";
import { emptyHost } from "../src/core/host/changes.ts";
import { parseNvidiaSmiInTurns } from "../src/monitor/nvidia-smi/parse.ts";
import { NvidiaSmiSource } from "../src/monitor/nvidia-smi/source.ts";
import { steadyClock } from "../src/platform/clock.ts";
import { smiDocument } from "../test/fixtures/nvidia-smi-document.ts";
import { DEFAULT_POLICY } from "../test/simulation/simulated-host.ts";

const WARM_UP = 20;
const READINGS = 100;
const LOOP_READINGS = 40;
const LOOP_INTERVAL_S = 0.1;
const DEFAULT_INTERVAL_MS = 5_000;
const END = "</nvidia_smi_log>";

const given = process.argv[2];
const document =
  given === undefined ? Buffer.from(smiDocument({ gpus: Array.from({ length: 8 }, () => ({})) })) : readFileSync(given);

/** In ms: the time of each piece between two turns of the event loop. */
async function pauses(): Promise<number[]> {
  const found: number[] = [];
  let over = false;
  const reading = parseNvidiaSmiInTurns(document).finally(() => {
    over = true;
  });
  for (let last = performance.now(); !over; ) {
    await new Promise((resolve) => setImmediate(resolve));
    const now = performance.now();
    found.push(now - last);
    last = now;
  }
  if (!(await reading).ok) throw new Error("the document cannot be read");
  return found;
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

function cpuMs(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1_000;
}

async function repeat(times: number, work: () => Promise<unknown>): Promise<number> {
  const begun = process.cpuUsage();
  for (let i = 0; i < times; i++) await work();
  return cpuMs(begun) / times;
}

/** In ms: the least time in which the core takes one more reading in, on a host where nothing is leased. */
async function decisionMs(): Promise<number> {
  const result = await parseNvidiaSmiInTurns(document);
  if (!result.ok) throw new Error(result.error.message);
  const { reading } = result.document;
  let state = emptyHost(DEFAULT_POLICY);
  let least = Infinity;
  for (let at = 1; at <= READINGS; at++) {
    const begun = performance.now();
    const observation = { ok: true, startedAt: at, finishedAt: at, reading } as const;
    state = decide(state, { type: "observe", observation }, at).state;
    least = Math.min(least, performance.now() - begun);
  }
  return least;
}

/** One process prints the document again and again; each is parsed when its end has come. */
async function loopCpuMs(file: string): Promise<number> {
  const child = spawn("/bin/sh", ["-c", `while cat "$0"; do sleep ${LOOP_INTERVAL_S}; done`, file], {
    stdio: ["ignore", "pipe", "ignore"],
    detached: true,
  });
  const begun = process.cpuUsage();
  let text = Buffer.alloc(0);
  let readings = 0;
  for await (const chunk of child.stdout) {
    text = Buffer.concat([text, chunk as Buffer]);
    const end = text.lastIndexOf(END);
    if (end < 0) continue;
    await parseNvidiaSmiInTurns(text.subarray(0, end + END.length));
    text = text.subarray(end + END.length);
    if (++readings === LOOP_READINGS) break;
  }
  const used = cpuMs(begun) / readings;
  // The shell and what it has started: a group of its own.
  if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  return used;
}

const folder = mkdtempSync(join(tmpdir(), "reading-bench-"));
try {
  const file = join(folder, "document.xml");
  const program = join(folder, "nvidia-smi");
  writeFileSync(file, document);
  writeFileSync(program, `#!/bin/sh\nexec cat '${file}'\n`);
  chmodSync(program, 0o755);

  for (let i = 0; i < WARM_UP; i++) await pauses();
  const longest: number[] = [];
  // Of each piece the least time counts: the rest is what else runs on the machine, and garbage.
  let least: number[] = [];
  for (let i = 0; i < READINGS; i++) {
    const found = await pauses();
    longest.push(Math.max(...found));
    least = found.map((ms, piece) => Math.min(ms, least[piece] ?? Infinity));
  }
  const parsing = await repeat(READINGS, () => parseNvidiaSmiInTurns(document));
  const source = new NvidiaSmiSource({ path: program, clock: steadyClock() });
  await source.probe();
  const probing = await repeat(LOOP_READINGS, () => source.probe());
  await source.close();
  const looping = await loopCpuMs(file);

  const ms = (value: number) => `${value.toFixed(2)} ms`;
  console.log(`document of ${document.length} bytes, node ${process.version}`);
  console.log(
    `longest piece: ${ms(Math.max(...least))} of work; with all that came between, median ${ms(median(longest))}`,
  );
  console.log(`to decide upon it: ${ms(await decisionMs())}`);
  console.log(
    `processor time: ${ms(parsing)} to parse, ${ms(probing)} with a process per reading, ${ms(looping)} with one for all`,
  );
  console.log(
    `at one reading each ${DEFAULT_INTERVAL_MS} ms: ${((100 * probing) / DEFAULT_INTERVAL_MS).toFixed(2)} % of a core`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
