/**
 * `npm run test:gpu`: checks the built daemon on this host's GPUs, in five minutes at most. Writes a report, and what the
 * driver showed, with everything taken out that tells whose machine it is. Ends with 1 when a check failed.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { checkHost } from "./checks.ts";
import { GpuDaemon } from "./daemon.ts";
import { Driver } from "./driver.ts";
import { type Loads, loadsHere } from "./loads.ts";
import { lineOf, reportOf } from "./report.ts";
import { Scrubber } from "./scrub.ts";

const DEADLINE_MS = 290_000;
const DEFAULT_FOLDER = "data/gpu-report";

export interface Host {
  /** `null`: the one on the PATH. */
  readonly nvidiaSmi: string | null;
  readonly loads: () => Loads | string;
}

/** @returns the exit status. */
export async function main(args: readonly string[], say: (line: string) => void, host: Host): Promise<number> {
  const options = { out: { type: "string", default: DEFAULT_FOLDER } } as const;
  const out = parseArgs({ args: [...args], options }).values.out;
  const program = host.nvidiaSmi ?? "nvidia-smi";
  const probe = spawnSync(program, ["-L"], { encoding: "utf8" });
  if (probe.error !== undefined || probe.status !== 0) {
    const why = probe.error === undefined ? `it says: ${(probe.stdout + probe.stderr).trim()}` : "it cannot be run";
    say(`skipped: this needs a GPU that ${program} shows, and ${why}`);
    return 0;
  }
  const driver = new Driver(program);
  const place = mkdtempSync(join(tmpdir(), "gpu-orchestrator-gpu-"));
  const captures = new Captures(driver, out);
  captures.keep("idle");
  const daemon = await GpuDaemon.start(place, host.nvidiaSmi);
  const late = setTimeout(() => {
    say(`FAILED: not done after ${DEADLINE_MS / 1_000} s`);
    process.exit(1);
  }, DEADLINE_MS).unref();
  try {
    const parts = { daemon, driver, loads: host.loads(), capture: (name: string) => captures.keep(name) };
    const results = await checkHost(parts, (result) => say(captures.scrub(lineOf(result))));
    const about = { version: versionOf(), at: new Date().toISOString() };
    writeFileSync(join(out, "report.md"), captures.scrub(reportOf(results, about)));
    say(`the report and what the driver showed are in ${out}: look through them before you send them`);
    return results.some(({ verdict }) => verdict === "failed") ? 1 : 0;
  } finally {
    clearTimeout(late);
    await daemon.stop();
    rmSync(place, { recursive: true, force: true });
  }
}

/** What the driver showed, for fixtures. */
class Captures {
  readonly #driver: Driver;
  readonly #folder: string;
  readonly #scrubber = new Scrubber();

  constructor(driver: Driver, folder: string) {
    this.#driver = driver;
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    this.#write("list.txt", driver.run("-L"));
    this.#write("topology.txt", driver.run("topo", "-m"));
    const { stdout = "" } = spawnSync("dmesg", { encoding: "utf8" });
    const lines = (stdout ?? "").split("\n").filter((line) => /NVRM|Xid|nvidia/i.test(line));
    if (lines.length > 0) this.#write("kernel-log.txt", `${lines.join("\n")}\n`);
  }

  keep(name: string): void {
    this.#write(`${name}.xml`, this.#driver.document());
  }

  scrub(text: string): string {
    return this.#scrubber.scrub(text);
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.#folder, name), this.scrub(text));
  }
}

function versionOf(): string {
  return JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;
}

if (import.meta.main) {
  const here: Host = { nvidiaSmi: null, loads: loadsHere };
  process.exitCode = await main(process.argv.slice(2), (line) => console.log(line), here);
}
