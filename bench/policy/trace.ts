/**
 * Requests for one host, made from a production trace. The trace stays where it is, beside the repository: only what
 * comes of it goes into the project.
 *
 *  1. One GPU's part is a whole GPU here: leases are exclusive.
 *  2. Requests of more than {@link LONGEST_S} are left out: those are services, which on eight GPUs would stand for
 *     the whole of the trace and leave nothing to be decided. So is what was submitted before {@link FROM_S}, when the
 *     trace's cluster was being filled.
 *  3. Arrivals keep their order and their rhythm; time between them is stretched so that the GPU time asked for is the
 *     wanted part of what the host has between the first and the last arrival.
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Random, seededRandom } from "../../src/monitor/simulated/random.ts";

const FILE = fileURLToPath(new URL("../../../shared/fixtures/traces/openb-gpu-pods.csv", import.meta.url));
/** Whether the trace is at hand. */
export const hasTrace = existsSync(FILE);

export const HOST_GPUS = 8;
export const LONGEST_S = 12 * 3_600;
const FROM_S = 10_000_000;
const HEADER = "submitted_s,name,num_gpu,gpu_milli,qos,duration_s";
/** The trace's classes of service as priorities: who answers people comes before who does not. */
const PRIORITIES: Readonly<Record<string, number>> = { Guaranteed: 8, LS: 7, Burstable: 6, BE: 5 };

export interface Job {
  /** By submission, from 0. */
  readonly index: number;
  readonly submittedMs: number;
  readonly gpus: number;
  /** Thousandths of a GPU, of a request for one; 1,000 is a whole one. The trace's own figure, also where leases are whole. */
  readonly milli: number;
  readonly durationMs: number;
  readonly priority: number;
  /** What its owner would state as `max_duration`: the true duration times 1 to 3. */
  readonly statedMs: number;
}

export interface Recipe {
  readonly seed: number;
  /** GPU time asked for, as a part of what there is. */
  readonly load: number;
  /** Part of the GPU time that requests of several GPUs ask for; `null`: as it is in the trace. */
  readonly severalShare: number | null;
  /** How many requests, thinned at random; `null`: all. */
  readonly requests: number | null;
}

interface Row {
  readonly submittedS: number;
  readonly gpus: number;
  readonly milli: number;
  readonly qos: string;
  readonly durationS: number;
}

/** @throws Error when the trace is missing or looks otherwise than described. */
export function sample({ seed, load, severalShare, requests }: Recipe): readonly Job[] {
  const random = seededRandom(seed);
  let rows = readTrace().filter(({ submittedS, durationS }) => submittedS >= FROM_S && durationS <= LONGEST_S);
  if (requests !== null) rows = thinned(rows, requests, random);
  if (severalShare !== null) rows = withSeveral(rows, severalShare, random);
  const gpuTimeS = rows.reduce((sum, { gpus, durationS }) => sum + gpus * durationS, 0);
  const first = (rows[0] as Row).submittedS;
  const spanS = (rows.at(-1) as Row).submittedS - first;
  const stretch = gpuTimeS / (HOST_GPUS * load) / spanS;
  return rows.map(({ submittedS, gpus, milli, qos, durationS }, index) => ({
    index,
    submittedMs: Math.round((submittedS - first) * stretch * 1_000),
    gpus,
    milli,
    durationMs: durationS * 1_000,
    priority: PRIORITIES[qos] as number,
    statedMs: Math.ceil(durationS * 1_000 * (1 + 2 * random())),
  }));
}

function readTrace(): readonly Row[] {
  const [header, ...lines] = readFileSync(FILE, "utf8").trim().split("\n");
  if (header !== HEADER) throw new Error(`${FILE} has other columns than ${HEADER}`);
  const rows = lines.map((line) => {
    const [submittedS, , gpus, milli, qos = "", durationS] = line.split(",");
    const numbers = { submittedS: Number(submittedS), gpus: Number(gpus), milli: Number(milli) };
    const row = { ...numbers, qos, durationS: Number(durationS) };
    if (!Object.values(row).every((value) => typeof value === "string" || value >= 0) || !(qos in PRIORITIES)) {
      throw new Error(`${FILE}: ${line}`);
    }
    return row;
  });
  return rows.sort((a, b) => a.submittedS - b.submittedS);
}

/** `count` of them, each as likely as any other, in their order. */
function thinned(rows: readonly Row[], count: number, random: Random): Row[] {
  const chosen = new Set(shuffled(rows.length, random).slice(0, count));
  return rows.filter((_, index) => chosen.has(index));
}

/**
 * Makes requests of one GPU, chosen at random, into such of several, until these ask for `share` of the GPU time. How
 * many GPUs goes by those of the trace that ask for several; how long, by all of the trace.
 */
function withSeveral(rows: readonly Row[], share: number, random: Random): Row[] {
  const counts = rows.filter(({ gpus }) => gpus > 1).map(({ gpus }) => gpus);
  const result = [...rows];
  let total = 0;
  let several = 0;
  for (const { gpus, durationS } of rows) {
    total += gpus * durationS;
    if (gpus > 1) several += gpus * durationS;
  }
  for (const index of shuffled(rows.length, random)) {
    if (several >= share * total) break;
    const row = result[index] as Row;
    if (row.gpus > 1) continue;
    const gpus = pick(counts, random);
    const { durationS } = pick(rows, random);
    result[index] = { ...row, gpus, durationS };
    total += gpus * durationS - row.durationS;
    several += gpus * durationS;
  }
  return result;
}

function pick<T>(items: readonly T[], random: Random): T {
  return items[Math.floor(random() * items.length)] as T;
}

function shuffled(count: number, random: Random): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}
