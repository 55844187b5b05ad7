/**
 * Where the time of a profiled daemon goes: `node bench/profile.ts FILE.cpuprofile`, of a file that
 * `NODE_OPTIONS="--cpu-prof --cpu-prof-dir=FOLDER" npm run bench -- --only cycles` has left there; the largest is the
 * daemon's. Prints the share of each room, by the time of its own functions; idle time is left out.
 */
import { existsSync, readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { fileURLToPath } from "node:url";
import { row } from "./report.ts";

interface Frame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

interface Profile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: Frame }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** Parts with less are summed up as the rest. */
const LEAST_PART = 0.01;

const maps = new Map<string, SourceMap | null>();

function mapOf(url: string): SourceMap | null {
  let map = maps.get(url);
  if (map === undefined) {
    const file = `${fileURLToPath(url)}.map`;
    map = existsSync(file) ? new SourceMap(JSON.parse(readFileSync(file, "utf8"))) : null;
    maps.set(url, map);
  }
  return map;
}

/** The source file of a frame, as far as it is known. */
function sourceOf({ url, lineNumber, columnNumber }: Frame): string {
  if (!url.startsWith("file:")) return url;
  const entry = mapOf(url)?.findEntry(lineNumber, columnNumber);
  return entry !== undefined && "originalSource" in entry ? entry.originalSource : url;
}

function partOf(frame: Frame): string | null {
  const { functionName } = frame;
  if (functionName === "(idle)") return null;
  if (functionName === "(garbage collector)") return "garbage collection";
  if (functionName === "(program)") return "outside JavaScript";
  const source = sourceOf(frame);
  const own = /src\/(core\/[\w-]+|[\w-]+)\//.exec(source)?.[1];
  if (own !== undefined) return own;
  const dependency = /node_modules\/((?:@[\w.-]+\/)?[\w.-]+)\//.exec(source)?.[1];
  if (dependency !== undefined) return dependency;
  const internal = /^node:(?:internal\/)?([\w-]+)/.exec(source)?.[1];
  return internal === undefined ? "built-in functions" : `Node's ${internal.replace(/^_/, "")}`;
}

function print(file: string): void {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, "utf8")) as Profile;
  const parts = new Map(nodes.map(({ id, callFrame }) => [id, partOf(callFrame)]));
  const times = new Map<string, number>();
  let all = 0;
  for (const [i, id] of samples.entries()) {
    const part = parts.get(id) ?? null;
    if (part === null) continue;
    const us = timeDeltas[i] ?? 0;
    all += us;
    times.set(part, (times.get(part) ?? 0) + us);
  }
  console.log(row("share", `part, of ${(all / 1e6).toFixed(1)} s of the main thread`));
  console.log("|---|---|");
  let rest = 0;
  for (const [part, us] of [...times].sort(([, a], [, b]) => b - a)) {
    if (us / all < LEAST_PART) rest += us;
    else console.log(row(`${((100 * us) / all).toFixed(1)} %`, part));
  }
  console.log(row(`${((100 * rest) / all).toFixed(1)} %`, "the rest"));
}

const [, , ...files] = process.argv;
if (files.length === 0) throw new Error("node bench/profile.ts FILE.cpuprofile");
for (const file of files) print(file);
