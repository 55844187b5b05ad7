/** What is removed of runs' folders by itself: nothing that anybody may still ask for, and no secret stays. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { leftovers, removeOldDrafts, removeRun } from "../../src/worker/leftovers.ts";

const dir = mkdtempSync(join(tmpdir(), "gpuo-leftovers-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const NOW = Date.parse("2030-01-31T00:00:00Z");
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function run(name: string, ageMs: number, ...files: readonly string[]): void {
  const folder = join(dir, name);
  const at = new Date(NOW - ageMs);
  mkdirSync(folder);
  for (const file of files) {
    writeFileSync(join(folder, file), "TOKEN=secret");
    utimesSync(join(folder, file), at, at);
  }
  utimesSync(folder, at, at);
}

test("a start that its worker left half done goes after an hour, a settled run after 30 days, and nothing else", () => {
  run("half-done", 2 * HOUR, "order.json.17");
  run("half-done-now", HOUR / 2, "order.json.17");
  run("being-started", 2 * HOUR, "order.json.18");
  run("runs-for-long", 40 * DAY, "order.json", "holder.json");
  run("ended-and-wanted", 40 * DAY, "order.json", "end.json");
  run("settled", 31 * DAY, "order.json", "end.json", "settled.json");
  writeFileSync(join(dir, "somebody's file"), "");
  utimesSync(join(dir, "somebody's file"), new Date(NOW - 40 * DAY), new Date(NOW - 40 * DAY));
  run("settled-lately", 29 * DAY, "order.json", "end.json", "settled.json");
  // What cannot be looked at, by an error that is not the worker's, stays, and holds up nothing.
  run("odd", 40 * DAY);
  symlinkSync("settled.json", join(dir, "odd", "settled.json"));
  writeFileSync(join(dir, "a-file"), "");
  utimesSync(join(dir, "a-file"), 0, 0);
  const found = leftovers(dir, NOW, (name) => name === "being-started");
  expect(found.sort()).toEqual(["half-done", "settled"]);
  for (const name of found) removeRun(dir, name);
  expect(existsSync(join(dir, "half-done"))).toBe(false);
  expect(leftovers(join(dir, "gone"), NOW, () => false)).toEqual([]);
});

test("what a worker that died has left of results goes after a day, and what others keep there stays", async () => {
  const results = mkdtempSync(join(tmpdir(), "gpuo-drafts-"));
  onTestFinished(() => rmSync(results, { recursive: true, force: true }));
  const draft = (path: string, ageMs: number) => {
    mkdirSync(join(results, path), { recursive: true });
    writeFileSync(join(results, path, "responses.json"), "{}");
    utimesSync(join(results, path), new Date(NOW - ageMs), new Date(NOW - ageMs));
  };
  draft("task-1/replicas/0", 9 * DAY);
  draft("task-1/replicas/1.new", 2 * DAY);
  draft("task-2.new", 2 * DAY);
  draft("run-task-3-0-1.new", 2 * DAY);
  draft("task-4.new", HOUR);
  draft("notes.new", 9 * DAY);
  draft("notes/1.new", 9 * DAY);
  writeFileSync(join(results, "task-1", "responses.json.new"), "{");
  utimesSync(join(results, "task-1", "responses.json.new"), 0, 0);
  await removeOldDrafts(results, NOW);
  expect(readdirSync(results).sort()).toEqual(["notes", "notes.new", "task-1", "task-4.new"]);
  expect(readdirSync(join(results, "task-1"))).toEqual(["replicas"]);
  expect(readdirSync(join(results, "task-1", "replicas"))).toEqual(["0"]);
  expect(readdirSync(join(results, "notes"))).toEqual(["1.new"]);
  await removeOldDrafts(join(results, "none"), NOW);
});
