/** What most of these tests do. */
import { readFileSync } from "node:fs";
import { onTestFinished } from "vitest";
import { eventually, startDaemon, type TestDaemon } from "./daemon.ts";
import { Receiver } from "./receiver.ts";

const HAS_WORK = /^work:\s*(\{.*)?$/m;
/** A worker that waits for something is not to hold the tests up. */
const ENDS_MS = 20_000;

/** A daemon that is ready, and ended with the test: in order where it has work, so that its worker ends with it. */
export async function startReady(options: Parameters<typeof startDaemon>[0] = {}): Promise<TestDaemon> {
  const daemon = await startDaemon(options);
  onTestFinished(async () => {
    if (HAS_WORK.test(options.config ?? "")) await endInOrder(daemon);
    await daemon.end("SIGKILL");
    daemon.removeFolder();
  });
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  return daemon;
}

async function endInOrder(daemon: TestDaemon): Promise<void> {
  const late = setTimeout(() => daemon.process.kill("SIGKILL"), ENDS_MS);
  await daemon.end();
  clearTimeout(late);
}

export async function receive(): Promise<Receiver> {
  const receiver = await Receiver.start();
  onTestFinished(() => receiver.stop());
  return receiver;
}

export const record = async (daemon: TestDaemon, id: string) =>
  (await daemon.call("GET", `/gpu/allocations/${id}`)).body;

export const renew = (daemon: TestDaemon, id: string) => daemon.call("POST", `/gpu/allocations/${id}/renew`);

/** Renews until the test ends, as a living client does. */
export function keepRenewing(daemon: TestDaemon, id: string): void {
  // The last call may find the daemon gone.
  const heartbeat = setInterval(() => void renew(daemon, id).catch(() => undefined), 300);
  onTestFinished(() => clearInterval(heartbeat));
}

/** The record once it has ended, and when that was seen, on the test's own monotonic clock. */
export async function ended(daemon: TestDaemon, id: string, withinMs: number) {
  const body = await eventually(
    () => record(daemon, id),
    ({ status }) => status === "ended",
    withinMs,
  );
  return { body, at: performance.now() };
}

/** SIGSTOP, and waits until no thread of the daemon runs any more (proc_pid_stat(5): the state behind the name). */
export async function stopped(daemon: TestDaemon): Promise<void> {
  daemon.process.kill("SIGSTOP");
  const state = async () => readFileSync(`/proc/${daemon.process.pid}/stat`, "utf8").replace(/^.*\) /s, "")[0];
  await eventually(state, (is) => is === "T");
}
