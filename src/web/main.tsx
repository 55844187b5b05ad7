/** Starts the page. */
import { render } from "preact";
import { follow } from "./api/follow.ts";
import { Api } from "./api/http.ts";
import { type Channel, type LeadParts, type Locks, receive } from "./api/lead.ts";
import { App } from "./app.tsx";
import { Board } from "./board.ts";

const KEY = "gpu-orchestrator-key";
const STREAM = "/gpu/events?readings=true&work=true";
/** A page that nobody looks at for so long, in ms, closes its stream. */
const REST_MS = 5 * 60_000;

const keyNow = () => sessionStorage.getItem(KEY);
const api = new Api((input, init) => fetch(input, init), keyNow);
const after = (ms: number, call: () => void) => {
  const timer = setTimeout(call, ms);
  return () => clearTimeout(timer);
};

const board = new Board({
  api,
  now: () => performance.now(),
  after,
  receive: async (from, onMessage, onLink, signal) => {
    const parts: LeadParts = {
      name: `gpu-orchestrator ${await keyDigest()}`,
      // Not there where the page came neither over HTTPS nor from this machine.
      locks: (navigator.locks as Locks | undefined) ?? null,
      openChannel: (name) => new BroadcastChannel(name) as unknown as Channel,
      follow: (position, hear, say, ending) =>
        follow({ open, onMessage: hear, onLink: say, pause, after }, position, ending),
      onMessage,
      onLink,
    };
    await receive(parts, from, signal);
  },
});

async function open(position: number | null, signal: AbortSignal): Promise<ReadableStream> {
  const headers: Record<string, string> = position === null ? {} : { "last-event-id": String(position) };
  return (await api.open(STREAM, headers, signal)).body as ReadableStream;
}

/** Returns after so long, or at once when the network is back or somebody looks. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      callOff();
      window.removeEventListener("online", end);
      document.removeEventListener("visibilitychange", seen);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const seen = () => {
      if (document.visibilityState === "visible") end();
    };
    const callOff = after(ms, end);
    window.addEventListener("online", end);
    document.addEventListener("visibilitychange", seen);
    signal.addEventListener("abort", end);
  });
}

/** Tells keys apart without telling them. Where it cannot be made there are no locks either, and no channel to name. */
async function keyDigest(): Promise<string> {
  if (crypto.subtle === undefined) return "";
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(keyNow() ?? ""));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function giveKey(given: string | null): void {
  if (given === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, given);
  void board.start();
}

let callOffRest: (() => void) | null = null;
let isResting = false;
document.addEventListener("visibilitychange", () => {
  callOffRest?.();
  callOffRest = null;
  if (document.visibilityState === "visible") {
    if (isResting) void board.start();
    isResting = false;
  } else {
    callOffRest = after(REST_MS, () => {
      isResting = true;
      board.stop();
    });
  }
});

void board.start();
render(<App {...{ api, board, keyNow, giveKey }} />, document.getElementById("page") as HTMLElement);
