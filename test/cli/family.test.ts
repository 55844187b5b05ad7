import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { ALLOCATION_VARIABLE, membersOf, rootOf } from "../../src/cli/run/processes.ts";

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

async function started(env: NodeJS.ProcessEnv = {}): Promise<number> {
  const child = spawn("/bin/sleep", ["1000"], { stdio: "ignore", detached: true, env });
  children.push(child);
  await once(child, "spawn");
  return child.pid as number;
}

describe("the processes of a lease", () => {
  test("are the command's by its number and start, so that a number that came again is somebody else", async () => {
    const pid = await started();
    const root = rootOf(pid, true);
    const family = { allocationId: "alloc-none", spared: [], cage: null };
    expect(membersOf({ ...family, root })).toEqual([pid]);
    expect(membersOf({ ...family, root: { ...root, startTime: 1 } })).toEqual([]);
  });

  test("are those that bear its id, also where the same words stand in another variable before it", async () => {
    const pid = await started({ A: `${ALLOCATION_VARIABLE}=alloc-mine`, [ALLOCATION_VARIABLE]: "alloc-mine" });
    const other = await started({ A: `${ALLOCATION_VARIABLE}=alloc-mine` });
    const members = membersOf({ allocationId: "alloc-mine", root: null, spared: [], cage: null });
    expect(members).toContain(pid);
    expect(members).not.toContain(other);
  });
});
