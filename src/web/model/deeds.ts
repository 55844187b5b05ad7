/** What may be done to a GPU, a lease, a request or a webhook, as calls of the API. */

export interface Field {
  readonly name: string;
  readonly label: string;
  readonly hint?: string;
  readonly isNeeded?: boolean;
}

export interface Deed {
  readonly title: string;
  /** What comes of it, in a sentence. */
  readonly what: string;
  /** On the button that does it. */
  readonly verb: string;
  /** On the button that offers it; the verb when left out. */
  readonly short?: string;
  readonly method: "POST" | "DELETE";
  readonly path: string;
  /** `false`: it concerns nobody but the caller, or changes nobody's lease. */
  readonly wantsReason: boolean;
  readonly isGrave?: boolean;
  readonly fields?: readonly Field[];
}

const gpuPath = (uuid: string, verb: string) => `/gpu/gpus/${encodeURIComponent(uuid)}/${verb}`;
const recordPath = (id: string) => `/gpu/allocations/${encodeURIComponent(id)}`;
const asked = { method: "POST", wantsReason: true } as const;
const DEADLINE: Field = {
  name: "deadline",
  label: "Leases must be gone after",
  hint: "such as 30m; empty: when they end",
};

export const deeds = {
  cordon: (uuid: string, name: string): Deed => ({
    ...asked,
    title: `Cordon ${name}`,
    what: "There will be no new leases on it. What runs there runs on.",
    verb: "Cordon",
    path: gpuPath(uuid, "cordon"),
  }),
  uncordon: (uuid: string, name: string): Deed => ({
    ...asked,
    title: `Uncordon ${name}`,
    what: "There may be new leases on it again.",
    verb: "Uncordon",
    path: gpuPath(uuid, "uncordon"),
  }),
  drain: (uuid: string, name: string): Deed => ({
    ...asked,
    title: `Drain ${name}`,
    what: "There will be no new leases on it, and those that are there come to an end.",
    verb: "Drain",
    path: gpuPath(uuid, "drain"),
    isGrave: true,
    fields: [DEADLINE],
  }),
  adopt: (uuid: string, name: string): Deed => ({
    ...asked,
    title: `Adopt what runs on ${name}`,
    what: "The use that nobody asked for becomes a lease, of the service that you name.",
    verb: "Adopt",
    path: gpuPath(uuid, "adopt"),
    fields: [
      { name: "service_name", label: "Service", isNeeded: true },
      { name: "principal", label: "Principal", hint: "empty: you" },
      { name: "max_duration", label: "For at most", hint: "such as 8h; empty: no end" },
    ],
  }),
  clear: (uuid: string, name: string): Deed => ({
    ...asked,
    title: `Clear the quarantine of ${name}`,
    what: "What was left on it no longer counts. It may be granted again at once.",
    verb: "Clear",
    path: gpuPath(uuid, "clear-quarantine"),
    isGrave: true,
  }),
  remove: (uuid: string, name: string): Deed => ({
    title: `Strike off ${name}`,
    what: "It is gone for good. Requests that only it could hold will be refused.",
    verb: "Strike off",
    method: "DELETE",
    wantsReason: true,
    path: `/gpu/gpus/${encodeURIComponent(uuid)}`,
    isGrave: true,
  }),
  drainHost: (): Deed => ({
    ...asked,
    title: "Drain the host",
    what: "No GPU gets new leases, and those that are there come to an end. Requests go on waiting.",
    verb: "Drain the host",
    path: "/gpu/drain",
    isGrave: true,
    fields: [DEADLINE],
  }),
  undrainHost: (): Deed => ({
    ...asked,
    title: "End the drain of the host",
    what: "GPUs get new leases again, but for those that are cordoned by themselves.",
    verb: "End the drain",
    path: "/gpu/undrain",
  }),
  revoke: (id: string, service: string): Deed => ({
    ...asked,
    title: `Revoke ${service}`,
    what: "Its lease ends at once, or its place in the queue is gone. Its program is told, not stopped.",
    verb: "Revoke",
    path: `${recordPath(id)}/revoke`,
    isGrave: true,
  }),
  release: (id: string, service: string, isHeld: boolean): Deed => ({
    title: isHeld ? `Release ${service}` : `Cancel ${service}`,
    what: isHeld ? "Its GPUs go to others. Stop its program first." : "It gives up its place in the queue.",
    verb: isHeld ? "Release" : "Cancel the request",
    method: "DELETE",
    wantsReason: false,
    path: recordPath(id),
    isGrave: true,
  }),
  redeliver: (id: string): Deed => ({
    ...asked,
    title: "Send this webhook again",
    what: "Its receiver sees the same id and the same body once more.",
    verb: "Send again",
    path: `/gpu/webhooks/deliveries/${encodeURIComponent(id)}/redeliver`,
  }),
  cancelTask: (id: string, name: string): Deed => ({
    title: `Cancel ${name}`,
    what: "Its program is stopped first, then its GPUs go to others. It is not taken up again.",
    verb: "Cancel the task",
    short: "Cancel",
    method: "DELETE",
    wantsReason: false,
    path: `/api/v1/tasks/${encodeURIComponent(id)}`,
    isGrave: true,
  }),
  deleteWorkload: (id: string, name: string): Deed => ({
    title: `Stop ${name}`,
    what: "The service is deleted: its replicas are stopped, then their GPUs go to others.",
    verb: "Stop the service",
    short: "Stop",
    method: "DELETE",
    wantsReason: false,
    path: `/workloads/${encodeURIComponent(id)}`,
    isGrave: true,
  }),
  restartWorkload: (id: string, name: string): Deed => ({
    title: `Restart ${name}`,
    what: "One replica after the other is stopped and started again.",
    verb: "Restart the service",
    short: "Restart",
    method: "POST",
    wantsReason: false,
    path: `/workloads/${encodeURIComponent(id)}/restart`,
  }),
  stopRun: (id: string, name: string): Deed => ({
    title: `Stop this run of ${name}`,
    what: "Its program is stopped. A task counts it as a failure, and a service starts another in its place.",
    verb: "Stop the run",
    method: "POST",
    wantsReason: false,
    path: `/runs/${encodeURIComponent(id)}/stop`,
    isGrave: true,
  }),
} as const;
