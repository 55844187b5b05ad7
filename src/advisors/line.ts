import { connect } from "node:net";
import type { Cancel, Clock } from "../platform/clock.ts";

/** How often it is looked whether somebody listens there. */
const PROBE_INTERVAL_MS = 30_000;
const PROBE_TIMEOUT_MS = 1_000;
/** Calls in a row that fail before it is left alone for a while. */
const MOST_FAILURES = 3;
const REST_MS = 60_000;

/** Whether a connection to `url` can be made. Sends nothing. */
export function canConnect(url: URL): Promise<boolean> {
  return new Promise((resolve) => {
    const port = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
    const socket = connect({ host: url.hostname.replace(/^\[|\]$/g, ""), port, timeout: PROBE_TIMEOUT_MS });
    const end = (isOpen: boolean) => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.once("connect", () => end(true));
    socket.once("timeout", () => end(false));
    socket.once("error", () => end(false));
  });
}

/**
 * Whether a service may be asked now: it is probed beside everything else, and left alone after failures in a row
 * until a probe finds it again.
 */
export class Line {
  readonly url: URL;
  readonly #clock: Clock;
  readonly #probe: (url: URL) => Promise<boolean>;
  #isReachable = false;
  #failures = 0;
  #restsUntil = Number.NEGATIVE_INFINITY;
  #cancel: Cancel | null = null;
  #isStopped = false;

  constructor(url: string, clock: Clock, probe = canConnect) {
    this.url = new URL(url);
    this.#clock = clock;
    this.#probe = probe;
  }

  get isOpen(): boolean {
    return this.#isReachable && this.#clock.now() >= this.#restsUntil;
  }

  /** Probes now, and again and again until {@link stop}. Never rejects. */
  async start(): Promise<void> {
    this.#isReachable = await this.#probe(this.url).catch(() => false);
    if (!this.#isStopped) this.#cancel = this.#clock.after(PROBE_INTERVAL_MS, () => void this.start());
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
  }

  succeeded(): void {
    this.#failures = 0;
  }

  failed(): void {
    this.#failures++;
    if (this.#failures < MOST_FAILURES) return;
    this.#failures = 0;
    this.#restsUntil = this.#clock.now() + REST_MS;
  }
}
