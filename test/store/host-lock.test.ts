import { chmodSync, linkSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { lockedProgram } from "../../src/daemon/host-lock.ts";
import { lockHost } from "../../src/store/host-lock.ts";
import { databasePath, open } from "./files.ts";

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "host-lock-"));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

test("one daemon has a host's GPUs, whatever database it has, and the next gets them when it is gone", () => {
  const locks = folder();
  const first = lockHost("/usr/bin/nvidia-smi", locks);
  expect(first.missing).toBeNull();
  expect(() => lockHost("/usr/bin/nvidia-smi", locks)).toThrow(/another gpu-orchestrator of this user leases the GPUs/);
  const other = lockHost("/opt/other/nvidia-smi", locks);
  expect(other.missing).toBeNull();
  first.release();
  const second = lockHost("/usr/bin/nvidia-smi", locks);
  expect(second.missing).toBeNull();
  for (const lock of [other, second]) lock.release();
});

test("a lock that cannot be had is told and keeps nobody from starting", () => {
  expect(lockHost("/usr/bin/nvidia-smi", join(folder(), "nowhere")).missing).toMatch(
    /unable to open.*: let the daemon write to /,
  );
  const locks = folder();
  // What another user might leave there: no file of this one's.
  symlinkSync(join(folder(), "a"), lockPlace(locks));
  expect(lockHost("/usr/bin/nvidia-smi", locks).missing).toMatch(/is not this user's/);
});

/** Where the lock of that program is: seen while it is held. */
function lockPlace(locks: string): string {
  const held = lockHost("/usr/bin/nvidia-smi", locks);
  const name = readdirSync(locks).find((one) => one.endsWith(".lock"));
  held.release();
  return join(locks, name as string);
}

test("the lock goes by the program that shows the GPUs, and simulated ones need none", () => {
  const bin = folder();
  const monitoring = { source: "nvidia-smi", nvidiaSmiPath: null } as never;
  expect(lockedProgram(monitoring, `/nowhere:${bin}`)).toBeNull();
  writeFileSync(join(bin, "nvidia-smi"), "#!/bin/sh\n");
  chmodSync(join(bin, "nvidia-smi"), 0o755);
  expect(lockedProgram(monitoring, `/nowhere:${bin}`)).toBe(join(bin, "nvidia-smi"));
  const link = `${folder()}/bin`;
  symlinkSync(bin, link);
  expect(lockedProgram({ source: "nvidia-smi", nvidiaSmiPath: join(link, "nvidia-smi") } as never)).toBe(
    join(bin, "nvidia-smi"),
  );
  expect(lockedProgram({ source: "simulated", nvidiaSmiPath: null } as never, bin)).toBeNull();
});

test("a database with a second name is refused by both: each would have a lock and a log of its own", async () => {
  const path = databasePath();
  await open(path).close();
  linkSync(path, `${path}.other`);
  for (const name of [path, `${path}.other`]) expect(() => open(name)).toThrow(/has 2 names \(hard links\)/);
  rmSync(`${path}.other`);
  await open(path).close();
});
