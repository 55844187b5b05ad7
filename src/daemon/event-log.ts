/** Events in the log: by the names of the API, so that what is found there can be asked for, and no more than it tells. */
import type { EpochMs } from "../core/base/time.ts";
import type { Event } from "../core/host/events.ts";
import { type Logger, type Plainly, plainly } from "../platform/logger.ts";
import { eventBody } from "../wire/events/bodies.ts";
import { timestamp } from "../wire/values.ts";

/** What an operator should hear of without asking: a line each. All others are for who debugs. */
const LEVELS: { readonly [type in Event["type"]]?: "warn" | "info" } = {
  granted: "info",
  ended: "info",
  preempting: "info",
  draining: "info",
  "notice-withdrawn": "info",
  "gpu-cordoned": "info",
  "gpu-uncordoned": "info",
  "host-cordoned": "info",
  "host-uncordoned": "info",
  reserved: "info",
  "reservation-cancelled": "info",
  "gpu-quarantined": "warn",
  "quarantine-cleared": "info",
  "gpu-removed": "info",
  "gpu-lost": "warn",
  "gpu-back": "info",
  "gpu-faulted": "warn",
  "gpu-fault-answered": "info",
  "gpu-foreign-use": "warn",
  "gpu-foreign-use-over": "info",
};

export class EventLog {
  /** Its level can change at a reload. */
  readonly #log: Logger;
  /** What the API tells everybody has no secrets. */
  readonly #say: Plainly;

  constructor(log: Logger) {
    this.#log = log;
    this.#say = plainly(log);
  }

  /** @param first the number of the first, by which `replay` can be asked for it. */
  write(events: readonly Event[], first: number, at: EpochMs): void {
    for (const [place, event] of events.entries()) {
      const level = LEVELS[event.type] ?? "debug";
      if (!this.#log.isLevelEnabled(level)) continue;
      this.#say(level, { seq: first + place, at: timestamp(at), ...eventBody(event) }, event.type);
    }
  }
}
