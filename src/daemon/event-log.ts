import type { Event } from "../core/host/events.ts";
import type { Logger } from "../platform/logger.ts";

/** What an operator should hear of without asking. */
const TROUBLES: ReadonlySet<Event["type"]> = new Set(["gpu-lost", "gpu-faulted", "gpu-quarantined", "gpu-foreign-use"]);

const RELIEFS: ReadonlySet<Event["type"]> = new Set(["gpu-back", "gpu-fault-answered", "gpu-foreign-use-over"]);

/** What only owners and admins may see of a request and a lease; the log may go to others. */
const HIDDEN: ReadonlySet<string> = new Set(["workloadData", "webhookUrl", "fencingToken"]);

function withoutSecrets(event: Event): unknown {
  return JSON.parse(JSON.stringify(event, (name, value: unknown) => (HIDDEN.has(name) ? undefined : value)));
}

/** @param first the number of the first, by which `replay` can be asked for it. */
export function logEvents(log: Logger, events: readonly Event[], first: number): void {
  const toTheLast = log.isLevelEnabled("debug");
  for (const [place, event] of events.entries()) {
    const seq = first + place;
    if (TROUBLES.has(event.type)) log.warn({ seq, event }, event.type);
    else if (RELIEFS.has(event.type)) log.info({ seq, event }, event.type);
    else if (toTheLast) log.debug({ seq, event: withoutSecrets(event) }, event.type);
  }
}
