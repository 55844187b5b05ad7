import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { startWatchdog } from "../../src/platform/notify.ts";

const NOTIFY = new URL("../../src/platform/notify.ts", import.meta.url).href;

/**
 * The service manager's end: prints each datagram as a line of JSON. A received file descriptor is the barrier of
 * sd_notify_barrier(3); the sender waits until it is closed.
 */
const RECEIVER = `
import array, json, os, socket, sys
end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
end.bind(sys.argv[1].replace("@", "\\0", 1))
print("listening", flush=True)
while True:
    data, ancillary, _, _ = end.recvmsg(4096, 4096)
    for level, kind, fds in ancillary:
        for fd in array.array("i", fds): os.close(fd)
    print(json.dumps(data.decode()), flush=True)
`;

const missing = ["python3", "systemd-notify"].filter((program) => {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return false;
  } catch {
    return true;
  }
});
const needs = missing.length > 0 ? ` (skipped: no ${missing.join(", no ")} here)` : "";

describe(`a service manager is told${needs}`, { skip: missing.length > 0 }, () => {
  let folder: string;
  let receiver: ChildProcess;
  let received: AsyncIterator<string>;

  async function listenAt(address: string): Promise<void> {
    receiver = spawn("python3", ["-c", RECEIVER, address], { stdio: ["ignore", "pipe", "inherit"] });
    if (receiver.stdout === null) throw new Error("the receiver has no output");
    received = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]();
    expect((await received.next()).value).toBe("listening");
  }

  /** The next message that is not a barrier. */
  async function nextMessage(): Promise<string> {
    for (;;) {
      const message: string = JSON.parse((await received.next()).value);
      if (message !== "BARRIER=1") return message;
    }
  }

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "notify-"));
  });
  afterEach(() => {
    receiver.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  test("every state, in the order of the calls", async () => {
    const socket = join(folder, "notify.sock");
    await listenAt(socket);
    const states = Array.from({ length: 12 }, (_, i) => `STATUS=step ${i}`);
    runNode(socket, `for (const state of ${JSON.stringify(states)}) notifySystemd(state); ${STAY}`);
    for (const state of states) expect(await nextMessage()).toBe(state);
  });

  test("over an abstract socket", async () => {
    const socket = `@gpu-orchestrator-test-${process.pid}`;
    await listenAt(socket);
    runNode(socket, `notifySystemd("READY=1\\nSTATUS=8 GPUs, it's ready"); ${STAY}`);
    expect(await nextMessage()).toBe("READY=1\nSTATUS=8 GPUs, it's ready");
  });

  test("that it stops, even when the process ends at once", async () => {
    const socket = join(folder, "notify.sock");
    await listenAt(socket);
    runNode(socket, `notifySystemd("STOPPING=1"); process.exit(0);`);
    expect(await nextMessage()).toBe("STOPPING=1");
  });

  test("when a reload began, on its own clock", async () => {
    const socket = join(folder, "notify.sock");
    await listenAt(socket);
    runNode(socket, `notifySystemd("RELOADING=1"); notifySystemd("READY=1"); ${STAY}`);
    const [reloading, at] = (await nextMessage()).split("\nMONOTONIC_USEC=");
    expect(reloading).toBe("RELOADING=1");
    const uptimeUs = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1e6;
    expect(Math.abs(uptimeUs - Number(at))).toBeLessThan(60e6);
    expect(await nextMessage()).toBe("READY=1");
  });
});

const started = new Set<ChildProcess>();
afterEach(() => {
  for (const child of started) child.kill("SIGKILL");
  started.clear();
});

const STAY = "setInterval(() => {}, 1000);";

function runNode(socket: string | null, body: string, path = process.env.PATH): ChildProcess {
  const { NOTIFY_SOCKET: _, ...rest } = process.env;
  const env = { ...rest, PATH: path, ...(socket === null ? {} : { NOTIFY_SOCKET: socket }) };
  const code = `import { notifySystemd } from ${JSON.stringify(NOTIFY)}; ${body}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  started.add(child);
  return child;
}

/** Runs to the end. */
async function finish(child: ChildProcess): Promise<{ code: number | null; stderr: string }> {
  let stderr = "";
  child.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, stderr };
}

test("nothing is sent, said or started when no service manager listens", async () => {
  // A PATH with nothing in it: any attempt to start a child would be reported.
  const { code, stderr } = await finish(runNode(null, `notifySystemd("READY=1");`, "/nonexistent"));
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
});

test("without systemd-notify the process lives on and says so once", async () => {
  const body = `for (let i = 0; i < 3; i++) notifySystemd("READY=1"); setTimeout(() => {}, 500);`;
  const { code, stderr } = await finish(runNode("/nonexistent/notify", body, "/nonexistent"));
  expect(code).toBe(0);
  expect(stderr.match(/systemd was not told how the service stands/g)).toHaveLength(1);
});

test("a systemd-notify that hangs does not keep the process alive", async () => {
  const folder = mkdtempSync(join(tmpdir(), "notify-"));
  writeFileSync(join(folder, "systemd-notify"), "#!/bin/sh\nexec /bin/sleep 4\n", { mode: 0o755 });
  const startedAt = performance.now();
  const { code } = await finish(runNode("/nonexistent/notify", `notifySystemd("READY=1");`, folder));
  rmSync(folder, { recursive: true });
  expect(code).toBe(0);
  expect(performance.now() - startedAt).toBeLessThan(3_000);
});

describe("the watchdog", () => {
  const saved = { ...process.env };
  afterEach(() => {
    process.env = { ...saved };
  });

  function beatsIn(ms: number, env: Record<string, string>): { sent: string[]; clock: ManualClock; stop: () => void } {
    process.env = { ...saved, ...env };
    const clock = new ManualClock();
    const sent: string[] = [];
    const stop = startWatchdog(clock, (state) => sent.push(state));
    clock.advance(ms);
    return { sent, clock, stop };
  }

  test("gets two signs of life in each of its periods until it is stopped", () => {
    const { sent, clock, stop } = beatsIn(60_000, { WATCHDOG_USEC: "60000000", WATCHDOG_PID: String(process.pid) });
    expect(sent).toEqual(["WATCHDOG=1", "WATCHDOG=1"]);
    stop();
    clock.advance(600_000);
    expect(sent).toHaveLength(2);
  });

  test("of another process is left alone", () => {
    expect(beatsIn(600_000, { WATCHDOG_USEC: "60000000", WATCHDOG_PID: "1" }).sent).toEqual([]);
  });

  test("that is absent or not a number gets nothing", () => {
    expect(beatsIn(600_000, { WATCHDOG_USEC: "" }).sent).toEqual([]);
    expect(beatsIn(600_000, { WATCHDOG_USEC: "soon" }).sent).toEqual([]);
    expect(beatsIn(600_000, { WATCHDOG_USEC: "0" }).sent).toEqual([]);
  });
});
