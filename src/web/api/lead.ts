/**
 * One stream for all tabs of a browser: HTTP/1.1 gives an address six connections, and a stream keeps one for itself.
 *
 *  1. The tab that has the lock leads: it follows the daemon's stream and hands each message to the others.
 *  2. A tab that joins is handed what came lately, so that between its first look and its first message nothing is lost.
 *  3. A tab that has been hidden for long asks for the lock no longer, and leads no longer.
 *  4. Tabs share only with tabs of the same key: a channel's name is made of its digest.
 *
 * Where the browser has no locks, which is where the page did not come over HTTPS or from this machine, each tab
 * follows for itself.
 */
import type { Link } from "./follow.ts";
import type { Message } from "./messages.ts";

type Told =
  | { readonly kind: "message"; readonly message: Message }
  | { readonly kind: "link"; readonly link: Link }
  | { readonly kind: "joined"; readonly after: number };

/** What the leader keeps for those who join. */
const KEPT = 300;

export interface Locks {
  request(name: string, options: { signal: AbortSignal }, held: () => Promise<void>): Promise<void>;
}

export interface Channel {
  postMessage(told: Told): void;
  onmessage: ((event: { readonly data: Told }) => void) | null;
  close(): void;
}

export interface LeadParts {
  readonly name: string;
  readonly locks: Locks | null;
  readonly openChannel: (name: string) => Channel;
  /** Follows the stream behind that event, until the signal. */
  readonly follow: (
    after: number,
    onMessage: (message: Message) => void,
    onLink: (link: Link) => void,
    signal: AbortSignal,
  ) => Promise<void>;
  readonly onMessage: (message: Message) => void;
  readonly onLink: (link: Link) => void;
}

/** Receives the stream, by leading or from the leader, behind event `after` and until `signal`. */
export async function receive(parts: LeadParts, after: number, signal: AbortSignal): Promise<void> {
  let position = after;
  const take = (message: Message): boolean => {
    if (message.id !== null) {
      // A leader that took over goes on where it stood itself.
      if (message.id <= position && message.event !== "reset") return false;
      position = message.id;
    }
    parts.onMessage(message);
    return true;
  };
  if (parts.locks === null) return parts.follow(after, take, parts.onLink, signal);

  const channel = parts.openChannel(parts.name);
  const lead = async () => {
    const kept: Message[] = [];
    let link: Link = "connecting";
    channel.onmessage = ({ data }) => {
      if (data.kind !== "joined") return;
      channel.postMessage({ kind: "link", link });
      for (const message of kept) {
        if (message.id === null || message.id > data.after) channel.postMessage({ kind: "message", message });
      }
    };
    const onMessage = (message: Message) => {
      if (!take(message)) return;
      kept.push(message);
      if (kept.length > KEPT) kept.shift();
      channel.postMessage({ kind: "message", message });
    };
    const onLink = (now: Link) => {
      link = now;
      parts.onLink(now);
      channel.postMessage({ kind: "link", link });
    };
    await parts.follow(position, onMessage, onLink, signal);
  };
  channel.onmessage = ({ data }) => {
    if (data.kind === "message") take(data.message);
    else if (data.kind === "link") parts.onLink(data.link);
  };
  channel.postMessage({ kind: "joined", after });
  try {
    await parts.locks.request(parts.name, { signal }, lead);
  } catch (error) {
    // Called off while it waited for the lock.
    if (!signal.aborted) throw error;
  } finally {
    channel.close();
  }
}
