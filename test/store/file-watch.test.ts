import { renameSync, rmSync, symlinkSync } from "node:fs";
import { expect, test } from "vitest";
import { databasePath, openForTest } from "./files.ts";
import { START, turn } from "./turns.ts";

test("a database that cannot be looked at takes no turn, and does again once it can", async () => {
  const path = databasePath();
  const store = openForTest(path);
  expect(store.checkFile()).toBeNull();
  renameSync(path, `${path}.away`);
  // A name that leads to itself: the system answers neither that the file is there nor that it is not.
  symlinkSync(path, path);
  expect(store.checkFile()).toMatch(/cannot be looked at \(ELOOP/);
  await expect(store.commit(turn({ at: START }))).rejects.toThrow(/cannot be looked at/);
  rmSync(path);
  renameSync(`${path}.away`, path);
  expect(store.checkFile()).toBeNull();
  await store.commit(turn({ at: START }));
});
