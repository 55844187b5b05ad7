/** What of a run's folder is on the disk when a power cut may come, and what is left behind by a worker that died. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";

/** What was flushed, in order, and whether the order had its name then. */
const flushed = vi.hoisted((): [string, boolean][] => []);
vi.mock("node:fs", async (original) => {
  const actual = await original<typeof import("node:fs")>();
  const fsync = (file: number, done: (error: Error | null) => void) => {
    const path = actual.readlinkSync(`/proc/self/fd/${file}`);
    flushed.push([path, actual.existsSync(join(path, "order.json"))]);
    actual.fsync(file, done);
  };
  return { ...actual, fsync };
});

const { claimDurably, removeDrafts } = await import("../../src/worker/folder.ts");

const dir = mkdtempSync(join(tmpdir(), "gpuo-folder-"));
afterAll(() => rmSync(dir, { recursive: true }));

function folder(name: string): string {
  const path = join(dir, name);
  mkdirSync(path);
  return path;
}

test("an order is on the disk with its name and its folder's before anything is started by it", async () => {
  const run = folder("run-1");
  expect(await claimDurably(run, "order", { run: "run-1" })).toBe(true);
  expect(flushed).toContainEqual([dir, false]);
  expect(flushed.map(([path]) => basename(path))).toContain(`order.json.${process.pid}`);
  expect(flushed.at(-1)).toEqual([run, true]);
  expect(await claimDurably(run, "order", { run: "again" })).toBe(false);
  expect(readdirSync(run)).toEqual(["order.json"]);
});

test("drafts of an order, which have its secrets, go; the order stays", () => {
  const run = folder("run-2");
  for (const file of ["order.json", "order.json.17", "order.json.17.later", "child.json.17"])
    writeFileSync(join(run, file), "{}");
  removeDrafts(run);
  expect(readdirSync(run).sort()).toEqual(["child.json.17", "order.json"]);
});
