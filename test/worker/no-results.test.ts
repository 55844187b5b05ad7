/** The folder of all results is none for a while: an unmounted disk, or a file in its place. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { pause, Site, until } from "./site.ts";

const site = new Site();
beforeAll(async () => void (await site.start()));
afterAll(async () => site.close());

test("a result that cannot be put in its place is kept until it can, and its task is not over before", async () => {
  const results = join(site.dir, "results");
  rmSync(results, { recursive: true, force: true });
  writeFileSync(results, "");
  const id = site.submit(["/bin/sh", "-c", 'echo \'{"ok": true, "n": 7}\' > $OUT_DIR/responses.json']);
  await until("its run has ended", () => site.run(id)?.phase === "ended");
  await pause(1_000);
  expect(site.task(id)).toMatchObject({ status: "DISPATCHED" });
  rmSync(results);
  expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
  expect(JSON.parse(readFileSync(join(results, id, "responses.json"), "utf8"))).toEqual({ ok: true, n: 7 });
});
