/**
 * The rooms of the house: what each is for, and which others it may import. The test of the walls, the picture and the
 * table in docs/architecture.md all read this.
 */

export interface Room {
  /** One line of the table in docs/architecture.md. */
  readonly does: string;
  /** The rooms that it may import. It may always import itself. */
  readonly imports: readonly string[];
}

/** The floors of the core, lowest first: each may import those before it, but the analyzer no readings. */
const FLOORS = {
  "core/base": "no domain word: ordered map, durations, order",
  "core/model": "the words: allocation, GPU, reading, policy, errors; facts of one value",
  "core/readings": "what one reading says: health, closeness, Xid",
  "core/analyzer": "what a workload needs: rules, memory model, catalogue of models",
  "core/host": "the state, its indexes, a GPU's condition, the events, evolve",
  "core/allocator": "which GPUs: candidates, fit, place, best set",
  "core/queue": "who is next: schedule, reservation, preemption, allowances, budgets",
  "core/decisions": "commands in, events out; observe/ takes readings in",
  "core/explain": "why not, when, dry run",
  "core/replay": "what a turn must keep, and a past turn decided again",
} as const;

const CORE: readonly string[] = Object.keys(FLOORS);
const LEASING = [...CORE, "ports", "platform"];

function below(floor: string): readonly string[] {
  return CORE.slice(0, CORE.indexOf(floor)).filter((room) => floor !== "core/analyzer" || room !== "core/readings");
}

/** An allow-list: a room that is not in it may be imported by nobody. */
export const ROOMS: Readonly<Record<string, Room>> = {
  platform: { does: "clock, ids, logger, calendar; no domain word", imports: [] },
  ...Object.fromEntries(Object.entries(FLOORS).map(([floor, does]) => [floor, { does, imports: below(floor) }])),
  ports: { does: "the interfaces of store, webhooks, observers and GPU sources", imports: CORE },
  wire: { does: "JSON both ways, by resource: asks, answers, bodies", imports: LEASING },
  "wire/work": { does: "the JSON of workloads", imports: [...LEASING, "wire", "work"] },
  config: { does: "YAML, environment and flags into one frozen Config", imports: CORE },
  monitor: { does: "where GPU readings come from: nvidia-smi, the kernel's log, simulated GPUs", imports: LEASING },
  store: { does: "SQLite: migrations, journal, outbox, backups", imports: LEASING },
  webhooks: { does: "delivers the outbox: checks addresses, signs, backs off, sends", imports: LEASING },
  metrics: { does: "Prometheus, fed by events and readings", imports: LEASING },
  advisors: { does: "outside services that are asked beside the hot path", imports: LEASING },
  models: { does: "what is known of models: local files, and the memory that leases used", imports: LEASING },
  scheduler: { does: "the only writer: commands into turns, turns into the store", imports: [...LEASING, "wire"] },
  "http/exchange": { does: "a request in, an answer out, whatever it is about", imports: ["core/model", "platform"] },
  http: { does: "the API, a folder per resource", imports: [...LEASING, "wire", "scheduler", "http/exchange"] },
  daemon: {
    does: "builds, starts and stops the leasing process",
    imports: [
      ...LEASING,
      "wire",
      "config",
      "monitor",
      "store",
      "webhooks",
      "metrics",
      "advisors",
      "models",
      "scheduler",
      "http",
      "http/exchange",
      "work-service",
    ],
  },
  work: { does: "pure: workloads, tasks, runs; what to start and stop", imports: ["core/base", "core/model"] },
  client: { does: "the typed client of the API", imports: ["platform", "wire"] },
  "work-service": {
    does: "the loop, store and routes of running work",
    imports: ["core/base", "work", "client", "broker", "wire", "wire/work", "config", "platform", "http/exchange"],
  },
  broker: { does: "several hosts over Redis", imports: ["work", "platform"] },
  worker: { does: "the process that runs work", imports: ["work", "client", "broker", "config", "platform"] },
  controller: {
    does: "a cluster's workloads and deployments",
    imports: ["work", "client", "config", "platform", "core/base", "core/model", "core/analyzer", "http/exchange"],
  },
  web: { does: "the page", imports: ["client"] },
  mcp: { does: "the API for programs that act on their own", imports: ["client", "platform"] },
  cli: {
    does: "verbs",
    imports: ["client", "config", "platform", "core/base", "daemon", "worker", "controller", "mcp"],
  },
};

/** Rooms whose imports of another room must be for its types only. */
export const TYPES_ONLY: ReadonlySet<string> = new Set(["client > wire"]);
