import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { resultFile } from "../../src/work-service/output.ts";

const results = mkdtempSync(join(tmpdir(), "gpuo-results-"));
beforeAll(() => {
  mkdirSync(join(results, "t1", "a"), { recursive: true });
  writeFileSync(join(results, "t1", "a", "b.json"), "{}");
  writeFileSync(join(results, "private"), "x");
  symlinkSync(results, join(results, "t1", "up"));
});
afterAll(() => rmSync(results, { recursive: true, force: true }));

/** What is thrown at once counts as well. */
async function fetched(path: string): Promise<string> {
  return (await resultFile(results, "t1", path)).toString();
}

describe("a file of a task's results", () => {
  test("is read, wherever it lies beneath the task's folder", async () => {
    expect(await fetched("a/b.json")).toBe("{}");
    expect(await fetched("a/../a/b.json")).toBe("{}");
  });

  test.each([
    ["nothing there", "a/c"],
    ["a NUL in a folder's name", "a\0b/c"],
    ["a NUL in the file's name", "a/b\0"],
    ["a folder's name that is too long", `${"x".repeat(300)}/c`],
    ["a file's name that is too long", "x".repeat(300)],
    ["a path that is too long", "x/".repeat(3_000)],
    ["a file as a folder", "a/b.json/c"],
    ["a folder", "a"],
    ["the folder itself", "."],
    ["a way out", "../private"],
    ["a way out, with a NUL", "../\0/private"],
    ["a link on the way", "up/private"],
  ])("is not found: %s", async (_, path) => {
    await expect(fetched(path)).rejects.toMatchObject({ code: "result-not-found" });
  });
});
