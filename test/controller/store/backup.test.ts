import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { backUpController, isOfController, restoreController } from "../../../src/controller/store/backup.ts";
import { SqliteDatabase } from "../../../src/controller/store/sqlite.ts";

const VALUE = [{ sql: "SELECT last FROM versions" }];
const next = (last: number) => [{ sql: `UPDATE versions SET last = ${last}` }];
const valueIn = async (path: string) => {
  const database = new SqliteDatabase(path);
  try {
    return (await database.run(VALUE))[0];
  } finally {
    await database.close();
  }
};

function folderForTest(): string {
  const folder = mkdtempSync(join(tmpdir(), "controller-backup-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test("a controller's file is copied while it is in use, and put back when it is not", async () => {
  const folder = folderForTest();
  const [file, copy] = [join(folder, "controller.db"), join(folder, "copy.db")];
  const database = new SqliteDatabase(file);
  await database.run(next(7));
  expect(isOfController(file)).toBe(true);
  expect((await backUpController(file, copy, false)).to).toBe(copy);
  await database.run(next(8));
  await expect(backUpController(file, copy, false)).rejects.toThrow("--overwrite");
  await expect(restoreController(file, copy)).rejects.toThrow("in use by another controller");
  await database.close();
  const { kept } = await restoreController(file, copy);
  expect([await valueIn(file), await valueIn(kept ?? "")]).toEqual([[{ last: 7 }], [{ last: 8 }]]);
  expect(readdirSync(folder).filter((name) => name.includes("incomplete"))).toEqual([]);
});

test("what is none of a controller's is neither taken for one nor put in its place, and leaves nothing behind", async () => {
  const folder = folderForTest();
  const [file, other] = [join(folder, "controller.db"), join(folder, "other.db")];
  await new SqliteDatabase(file).close();
  writeFileSync(other, "no database");
  expect([isOfController(other), isOfController(join(folder, "none.db"))]).toEqual([false, false]);
  await expect(restoreController(file, other)).rejects.toThrow();
  expect(await valueIn(file)).toEqual([{ last: 0 }]);
  expect(readdirSync(folder).filter((name) => /incomplete|replaced/.test(name))).toEqual([]);
});
