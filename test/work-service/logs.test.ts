import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { followLogs, type LogLine, type LogQuery, logLines } from "../../src/work-service/output.ts";
import { LogFile } from "../../src/worker/log-file.ts";

const root = mkdtempSync(join(tmpdir(), "gpuo-logs-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const ALL: LogQuery = { stream: "both", tail: 10_000, since: null };

function runFolder(name: string): string {
  mkdirSync(join(root, name, "logs"), { recursive: true });
  return join(root, name);
}

function line(ms: number, text: string): string {
  return `${new Date(ms).toISOString()} ${text}\n`;
}

function textsOf(lines: readonly LogLine[]): string[] {
  return lines.map(({ text }) => text);
}

/** Of this process, since it began. */
function bytesRead(): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))?.[1]);
}

describe("the last lines of a run", () => {
  test("come from all files and both streams, in the order of their times", async () => {
    const folder = runFolder("order");
    let now = 0;
    const files = ["stdout", "stderr"].map(
      (name) => new LogFile(join(folder, "logs", `${name}.log`), 2_000, 5, () => now),
    );
    for (; now < 150; now++) files[now % 3 === 0 ? 1 : 0]?.write(Buffer.from(`line ${now} ü\n`));
    const expected = Array.from({ length: 150 }, (_, i) => `line ${i} ü`);

    expect(textsOf(await logLines(folder, ALL))).toEqual(expected);
    expect(textsOf(await logLines(folder, { ...ALL, tail: 7 }))).toEqual(expected.slice(-7));
    expect(textsOf(await logLines(folder, { ...ALL, since: 100 }))).toEqual(expected.slice(100));
    expect(await logLines(folder, { ...ALL, tail: 0 })).toEqual([]);
    expect(textsOf(await logLines(folder, { ...ALL, stream: "stderr", tail: 2 }))).toEqual([
      expected[144],
      expected[147],
    ]);
  });

  test("are whole where a piece of the file begins within a line or a character", async () => {
    const folder = runFolder("pieces");
    const texts = Array.from({ length: 3_000 }, (_, i) => `${i} ${"ü".repeat(i % 200)}`);
    writeFileSync(join(folder, "logs", "stdout.log"), texts.map((text, i) => line(i, text)).join(""));
    expect(textsOf(await logLines(folder, ALL))).toEqual(texts);
  });

  test.runIf(process.platform === "linux")("are found without reading the rest of what it has printed", async () => {
    const folder = runFolder("large");
    const text = line(0, "x".repeat(200)).repeat(20_000);
    for (const name of ["stdout", "stderr"])
      for (const end of ["", ".1", ".2"]) writeFileSync(join(folder, "logs", `${name}.log${end}`), text);
    const before = bytesRead();
    expect(await logLines(folder, { ...ALL, tail: 1 })).toHaveLength(1);
    expect(bytesRead() - before).toBeLessThan(2 ** 20);
  });

  test("are bounded in bytes where lines are long", async () => {
    const folder = runFolder("long");
    writeFileSync(join(folder, "logs", "stdout.log"), line(0, "x".repeat(16_000)).repeat(2_000));
    const bytes = (await logLines(folder, ALL)).reduce((sum, { text }) => sum + text.length, 0);
    expect(bytes).toBeGreaterThan(15 * 2 ** 20);
    expect(bytes).toBeLessThanOrEqual(16 * 2 ** 20);
  });
});

describe("following a run's logs", () => {
  /** Follows until the run is over, and does each step after the lines before it were told. */
  async function follow(folder: string, query: LogQuery, steps: readonly (() => void)[]): Promise<string[]> {
    const left = [...steps];
    const told: string[] = [];
    for await (const lines of followLogs(folder, query, () => left.length === 0, new AbortController().signal)) {
      told.push(...textsOf(lines));
      left.shift()?.();
    }
    return told;
  }

  test("begins at the end of a large file, and tells each line once", async () => {
    const folder = runFolder("follow-large");
    const path = join(folder, "logs", "stdout.log");
    writeFileSync(path, line(0, "old".padEnd(200, "x")).repeat(10_000) + line(1, "last"));
    const steps = [1, 2, 3].map((i) => () => appendFileSync(path, line(1 + i, `new ${i}`)));
    expect(await follow(folder, { ...ALL, tail: 1 }, steps)).toEqual(["last", "new 1", "new 2", "new 3"]);
  });

  test("loses no line that is written while the past is read", async () => {
    const folder = runFolder("follow-gap");
    const path = join(folder, "logs", "stdout.log");
    writeFileSync(path, line(0, "past"));
    const news = followLogs(folder, { ...ALL, tail: 5 }, () => true, new AbortController().signal);
    const told: string[] = [];
    const first = news.next();
    appendFileSync(path, line(1, "between"));
    told.push(...textsOf((await first).value ?? []));
    appendFileSync(path, line(2, "after"));
    for await (const lines of news) told.push(...textsOf(lines));
    expect(told).toEqual(["past", "between", "after"]);
  });

  test("keeps a character whole whose bytes are read one after the other", async () => {
    const folder = runFolder("follow-utf8");
    const path = join(folder, "logs", "stdout.log");
    // More than is read at once, so that some character lies across two reads.
    const texts = Array.from({ length: 40 }, (_, i) => `${"x".repeat(i % 3)}${"€".repeat(5_000)}`);
    const told = await follow(folder, ALL, [() => writeFileSync(path, texts.map((text) => line(1, text)).join(""))]);
    expect(told).toEqual(texts);
  });

  test("goes on in the next file, however often it is turned over", async () => {
    const folder = runFolder("follow-turned");
    const path = join(folder, "logs", "stdout.log");
    writeFileSync(path, line(0, "a"));
    const told = await follow(folder, ALL, [
      () => {
        appendFileSync(path, line(1, "b"));
        renameSync(path, `${path}.1`);
        writeFileSync(path, line(2, "c"));
        renameSync(`${path}.1`, `${path}.2`);
        renameSync(path, `${path}.1`);
        writeFileSync(path, line(3, "d"));
      },
      () => appendFileSync(path, line(4, "e")),
    ]);
    expect(told).toEqual(["a", "b", "c", "d", "e"]);
  });
});
