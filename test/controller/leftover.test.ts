/** The daemon that a killed controller leaves. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { endLeftover, noteChild } from "../../src/controller/host/leftover.ts";

function noted(): { readonly child: ChildProcess; readonly file: string } {
  const folder = mkdtempSync(join(tmpdir(), "leftover-"));
  const child = spawn("sleep", ["60"]);
  onTestFinished(() => {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });
  const file = join(folder, "daemon.pid");
  noteChild(file, child.pid as number);
  return { child, file };
}

function change(file: string, fields: object): void {
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...fields }));
}

test("is ended by the next, if its parent is gone", async () => {
  const { child, file } = noted();
  const ended = new Promise((resolve) => child.once("exit", (_code, signal) => resolve(signal)));
  await endLeftover(file, 5_000);
  expect(child.signalCode).toBeNull();
  change(file, { parent: 1 });
  await endLeftover(file, 5_000);
  expect(await ended).toBe("SIGTERM");
});

test("is nobody else who has its number by now", async () => {
  const { child, file } = noted();
  change(file, { parent: 1, startedAt: "1" });
  await endLeftover(file, 5_000);
  expect(child.signalCode).toBeNull();
  // Nothing is noted any more, or never was.
  await endLeftover(file, 5_000);
  expect(child.signalCode).toBeNull();
});
