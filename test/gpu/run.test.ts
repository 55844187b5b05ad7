/** `npm run test:gpu` itself, on a host whose `nvidia-smi` does as it is told. On a real GPU it is run by hand. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { isBuilt, temporaryFolder } from "../e2e/daemon.ts";
import { FakeHostFolder } from "../fake-host/host.ts";
import { leave, use } from "../fake-host/verbs.ts";
import { CHECKS } from "./checks.ts";
import type { Loads } from "./loads.ts";
import { main } from "./run.ts";
import { Scrubber } from "./scrub.ts";

function folder(): string {
  const path = temporaryFolder();
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Real processes, whose use of the GPU the fake driver shows. */
function loadsOn(host: FakeHostFolder): Loads {
  const held = new Map<ChildProcess, number>();
  const show = () => {
    host.change(leave(0));
    for (const [{ pid = 0 }, mb] of held) host.change(use(0, { pid, mb, type: "C", name: "/home/carol/train.py" }));
  };
  return async () => {
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
    return {
      pid: child.pid as number,
      async hold(mib) {
        held.set(child, mib);
        show();
      },
      async work(seconds) {
        held.set(child, 2_000);
        show();
        await new Promise((resolve) => setTimeout(resolve, (seconds * 1_000) / 2));
      },
      async kill() {
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
        held.delete(child);
        show();
      },
    };
  };
}

async function checked(host: FakeHostFolder, loads: Loads | string) {
  const out = folder();
  const lines: string[] = [];
  const say = (line: string) => lines.push(line);
  const status = await main(["--out", out], say, { nvidiaSmi: host.nvidiaSmi, loads: () => loads });
  return { out, status, text: lines.join("\n") };
}

test("without nvidia-smi it is skipped, and says so by name", async () => {
  const lines: string[] = [];
  const out = join(folder(), "report");
  const host = { nvidiaSmi: "/nowhere/nvidia-smi", loads: () => "none" };
  expect(await main(["--out", out], (line) => lines.push(line), host)).toBe(0);
  expect(lines).toEqual(["skipped: this needs a GPU that /nowhere/nvidia-smi shows, and it cannot be run"]);
  expect(existsSync(out)).toBe(false);
});

describe.skipIf(!isBuilt)("on a host that behaves (npm test builds the program)", () => {
  test("every check passes, and leaves a report and captures without a name in them", {
    timeout: 240_000,
  }, async () => {
    const host = new FakeHostFolder(folder(), 1);
    const { out, status, text } = await checked(host, loadsOn(host));
    expect(text).not.toContain("FAILED");
    expect(status).toBe(0);
    const report = readFileSync(join(out, "report.md"), "utf8");
    for (const { name } of CHECKS) expect(report).toContain(`## ${name}: `);
    // Not every host lets its kernel's log be read.
    expect(report).toMatch(/^[89] checks passed, 0 failed, [01] were skipped\.$/m);
    expect(readdirSync(out)).toEqual(
      expect.arrayContaining(["busy.xml", "idle.xml", "list.txt", "occupied.xml", "shared.xml"]),
    );
    const kept = readdirSync(out).map((name) => readFileSync(join(out, name), "utf8"));
    for (const one of kept) expect(one).not.toMatch(new RegExp(`carol|${host.state.gpus[0]?.shows.uuid}`));
  });

  test("without torch what needs a program on the GPU is skipped, and says why", { timeout: 120_000 }, async () => {
    const { status, text } = await checked(new FakeHostFolder(folder(), 2), "python3 has no torch");
    expect(status).toBe(0);
    expect(text.match(/python3 has no torch/g)).toHaveLength(5);
  });

  test("a figure that is not nvidia-smi's own, and a GPU that nobody may have, are failures", {
    timeout: 120_000,
  }, async () => {
    const host = new FakeHostFolder(folder(), 1);
    host.change(use(0, { pid: process.pid, mb: 9_000, type: "C", name: "x" }));
    const { status, text } = await checked(host, "none");
    expect(status).toBe(1);
    expect(text).toContain("no GPU is free: 0: occupied");
  });
});

test("what tells whose machine it was is taken out, and the same thing has the same name everywhere", () => {
  const scrubber = new Scrubber(["gpu-node-7", "carol"]);
  const uuid = "GPU-9E07794f-a1fb-9eae-961d-989c0b481c5b";
  const clean = scrubber.scrub(
    `<uuid>${uuid}</uuid><serial>1652922</serial><process_name>/home/carol/x.py</process_name> gpu-node-7: pid=7, name=python`,
  );
  expect(clean).toBe(
    "<uuid>GPU-00000000-0000-4000-8000-000000000001</uuid><serial>0</serial><process_name>program-1</process_name> " +
      "scrubbed: pid=7, name=program-2",
  );
  expect(scrubber.scrub(uuid.toLowerCase())).toBe("GPU-00000000-0000-4000-8000-000000000001");
  expect(scrubber.scrub("python")).toBe("python");
});
