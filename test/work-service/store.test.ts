/** Where work's books lie, and that one process has them. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { takeLock } from "../../src/store/open.ts";
import { WorkStore, workDatabaseBeside } from "../../src/work-service/store.ts";

test("books are named after the database that they lie beside, so that no two databases have the same", () => {
  expect(workDatabaseBeside("/a/data/gpu-orchestrator.db")).toBe("/a/data/work.db");
  expect(workDatabaseBeside("/a/data/simulated.db")).toBe("/a/data/simulated.work.db");
  expect(workDatabaseBeside("/a/b.c/other")).toBe("/a/b.c/other.work.db");
  expect(workDatabaseBeside("data/simulated.db")).toBe(join(process.cwd(), "data/simulated.work.db"));
  expect(workDatabaseBeside(":memory:")).toBe(":memory:");
});

test("books are one process's until it closes them", () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-books-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "data", "work.db");
  const first = new WorkStore(path, takeLock);
  expect(() => new WorkStore(path, takeLock)).toThrow(/work\.db is in use by another gpu-orchestrator/);
  first.close();
  const second = new WorkStore(path, takeLock);
  expect(second.books).toBe(first.books);
  second.close();
});
