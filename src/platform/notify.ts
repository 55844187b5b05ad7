/**
 * Tells systemd how the service stands: the protocol of sd_notify(3).
 *
 * The protocol is one datagram to the unix socket named by NOTIFY_SOCKET. Node has no unix datagram sockets
 * (nodejs/node issue 29339), so systemd's own systemd-notify(1) sends it, which has two consequences for the unit:
 * `NotifyAccess=all`, for the sender is a child; and systemd 246 or newer, whose systemd-notify exits only once the
 * message was read, so that it can still be attributed to the service.
 *
 * 1. One child at a time, in the order of the calls: RELOADING=1 must not overtake READY=1.
 * 2. Nothing here throws, waits or keeps the process alive; a message that cannot be sent is lost, and the first
 *    loss is a process warning.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Cancel, Clock } from "./clock.ts";

/** Enough for every state that a start, a reload and a stop pass through together. */
const MOST_WAITING = 16;
/** systemd-notify itself gives up on a manager that does not read after 5 s. */
const CHILD_DEADLINE_MS = 10_000;
const WATCHDOG = "WATCHDOG=1";

const waiting: string[] = [];
let sending = false;
let warned = false;

/**
 * Sends `state`, newline-separated assignments such as `READY=1` or `STOPPING=1\nSTATUS=draining`, to the service
 * manager. Does nothing when none asked to be told. `RELOADING=1` gets the time that `Type=notify-reload` needs.
 */
export function notifySystemd(state: string): void {
  const socket = process.env.NOTIFY_SOCKET;
  if (!socket) return;
  // A sign of life says nothing that a message still on its way would not say.
  if (state === WATCHDOG && waiting.length > 0) return;
  if (waiting.length === MOST_WAITING) {
    warnOnce(`more than ${MOST_WAITING} messages wait to be sent`);
    return;
  }
  waiting.push(state.split("\n").includes("RELOADING=1") ? `${state}\nMONOTONIC_USEC=${monotonicUs()}` : state);
  if (!sending) sendNext(socket);
}

/**
 * Sends systemd a sign of life twice in each period of its watchdog (`WatchdogSec=`), as sd_watchdog_enabled(3)
 * advises: an event loop that is stuck is then found and restarted. Without a watchdog for this process it does nothing.
 */
export function startWatchdog(clock: Clock, notify: (state: string) => void = notifySystemd): Cancel {
  const { WATCHDOG_USEC: period = "", WATCHDOG_PID: pid = "" } = process.env;
  const meantForUs = pid === "" || pid === String(process.pid);
  const periodMs = /^[1-9]\d*$/.test(period) ? Number(period) / 1000 : 0;
  if (!meantForUs || periodMs === 0) return () => {};
  let cancel: Cancel;
  const beat = () => {
    notify(WATCHDOG);
    cancel = clock.after(periodMs / 2, beat);
  };
  cancel = clock.after(periodMs / 2, beat);
  return () => cancel();
}

function sendNext(socket: string): void {
  const state = waiting.shift();
  sending = state !== undefined;
  if (state === undefined) return;
  send(socket, state, (problem) => {
    if (problem !== null) warnOnce(problem);
    sendNext(socket);
  });
}

/** Calls `done` once, later; with `null` when systemd has read the message. */
function send(socket: string, state: string, done: (problem: string | null) => void): void {
  let child: ChildProcess;
  try {
    child = spawn("systemd-notify", ["--", ...state.split("\n")], {
      env: { PATH: process.env.PATH, NOTIFY_SOCKET: socket },
      stdio: "ignore",
    });
  } catch (error) {
    // Some failures to spawn are thrown, others are emitted.
    setImmediate(done, error instanceof Error ? error.message : String(error)).unref();
    return;
  }
  child.unref();
  const deadline = setTimeout(() => child.kill("SIGKILL"), CHILD_DEADLINE_MS).unref();
  let isDone = false;
  const finish = (problem: string | null) => {
    clearTimeout(deadline);
    if (!isDone) done(problem);
    isDone = true;
  };
  child.once("error", (error) => finish(error.message));
  child.once("exit", (code, signal) => finish(code === 0 ? null : `systemd-notify ended with ${signal ?? code}`));
}

function warnOnce(problem: string): void {
  if (warned) return;
  warned = true;
  process.emitWarning(`systemd was not told how the service stands: ${problem}`, { code: "SYSTEMD_NOTIFY" });
}

/** What CLOCK_MONOTONIC says, which is the clock behind hrtime on Linux. */
function monotonicUs(): bigint {
  return process.hrtime.bigint() / 1000n;
}
