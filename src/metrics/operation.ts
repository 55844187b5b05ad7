/** How the daemon's own parts are doing: the monitor, the database, the webhooks, the event streams, the settings. */
import { Histogram, type Registry } from "prom-client";
import type { EpochMs } from "../core/base/time.ts";
import type { Observation, ProbeFailureKind } from "../core/model/reading.ts";
import type { GpuSource } from "../ports/gpu-source.ts";
import type { DeliverySettlement } from "../ports/webhooks.ts";
import { counter, gauge, gaugeFamily } from "./families.ts";
import type { Instant } from "./instant.ts";
import { Tally } from "./tally.ts";

/** A probe takes 30 ms on one idle GPU and several seconds on a host of eight; its deadline is 10 s by default. */
const PROBE_BUCKETS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const FAILURE_KINDS: { readonly [kind in ProbeFailureKind]: true } = {
  missing: true,
  timeout: true,
  driver: true,
  "gpu-lost": true,
  garbled: true,
  exit: true,
  "no-devices": true,
};
const OUTCOMES: { readonly [outcome in DeliverySettlement["outcome"]]: string } = {
  delivered: "delivered",
  retry: "retry",
  "gave-up": "gave_up",
};

export interface OperationParts {
  readonly version: string;
  readonly startedAt: EpochMs;
  readonly look: () => Instant;
  readonly storageHealthy: () => boolean;
  readonly source: Pick<GpuSource, "abandonedTotal" | "stuck">;
  readonly eventStreams: () => number;
}

export class Operation {
  readonly #probes: Histogram;
  readonly #failures: Tally<"kind">;
  readonly #deliveries: Tally<"outcome">;
  readonly #limits: Tally<"limit">;
  #storageOutages = 0;
  #reloadOk = true;
  #reloadOkAt: EpochMs;

  constructor(registry: Registry, parts: OperationParts) {
    this.#probes = new Histogram({
      name: "gpu_orchestrator_monitor_probe_duration_seconds",
      help: "How long it took to read the GPUs, failed attempts included",
      buckets: PROBE_BUCKETS_S,
      registers: [registry],
    });
    this.#failures = new Tally(
      registry,
      "gpu_orchestrator_monitor_probe_failures_total",
      "Attempts to read the GPUs that gave no reading, by what went wrong",
      ["kind"],
    );
    for (const kind of Object.keys(FAILURE_KINDS)) this.#failures.prepare(nameOf(kind));
    this.#deliveries = new Tally(
      registry,
      "gpu_orchestrator_webhook_attempts_total",
      "Attempts to deliver a webhook: delivered, to be tried again, or given up",
      ["outcome"],
    );
    for (const outcome of Object.values(OUTCOMES)) this.#deliveries.prepare(outcome);
    this.#limits = new Tally(
      registry,
      "gpu_orchestrator_limit_reached_total",
      "Requests refused because their client's share was used up, by the setting that says how much that is",
      ["limit"],
    );
    this.#reloadOkAt = parts.startedAt;
    this.#register(registry, parts);
  }

  #register(registry: Registry, { version, look, storageHealthy, eventStreams, source }: OperationParts): void {
    gauge(
      registry,
      "gpu_orchestrator_monitor_last_success_timestamp_seconds",
      "When the GPUs were last read, in seconds since 1970",
      () => inSeconds(look().state.sight.lastGoodProbeAt),
    );
    counter(
      registry,
      "gpu_orchestrator_monitor_probes_abandoned_total",
      "Attempts to read the GPUs that could not be ended, not even by SIGKILL, and were let go of",
      () => source.abandonedTotal,
    );
    gauge(
      registry,
      "gpu_orchestrator_monitor_probe_stuck",
      "1 while such an attempt is alive: no other is made then, and nothing can be read",
      () => Number(source.stuck),
    );
    gauge(
      registry,
      "gpu_orchestrator_monitor_processes_hidden",
      "1 when processes of others may be missing from what is read, as in a container without the host's pids",
      () => Number(look().state.sight.processesHidden),
    );
    gauge(registry, "gpu_orchestrator_monitor_simulated", "1 when the GPUs are simulated", () =>
      Number(look().state.sight.simulated),
    );
    gauge(registry, "gpu_orchestrator_storage_healthy", "1 when the database took the last change", () =>
      Number(storageHealthy()),
    );
    counter(
      registry,
      "gpu_orchestrator_storage_outages_total",
      "Times that the database began to refuse changes",
      () => this.#storageOutages,
    );
    gauge(registry, "gpu_orchestrator_event_streams", "Clients that read the event stream", eventStreams);
    gauge(
      registry,
      "gpu_orchestrator_config_last_reload_successful",
      "1 when the settings were good the last time that they were read",
      () => Number(this.#reloadOk),
    );
    gauge(
      registry,
      "gpu_orchestrator_config_last_reload_success_timestamp_seconds",
      "When good settings were last read, in seconds since 1970",
      () => inSeconds(this.#reloadOkAt),
    );
    gaugeFamily(registry, {
      name: "gpu_orchestrator_build_info",
      help: "Always 1; the labels say what runs",
      labelNames: ["version", "node_version"],
      read: () => [{ labels: { version, node_version: process.versions.node }, value: 1 }],
    });
  }

  observed(observation: Observation): void {
    this.#probes.observe((observation.finishedAt - observation.startedAt) / 1_000);
    if (!observation.ok) this.#failures.count(nameOf(observation.failure.kind));
  }

  storage(healthy: boolean): void {
    if (!healthy) this.#storageOutages++;
  }

  limitReached(limit: string): void {
    this.#limits.count(limit);
  }

  webhookSettled({ outcome }: Pick<DeliverySettlement, "outcome">): void {
    this.#deliveries.count(OUTCOMES[outcome]);
  }

  configReload(ok: boolean, at: EpochMs): void {
    this.#reloadOk = ok;
    if (ok) this.#reloadOkAt = at;
  }
}

/** Label values are words joined by underscores. */
function nameOf(kind: string): string {
  return kind.replaceAll("-", "_");
}

function inSeconds(at: EpochMs | null): number | null {
  return at === null ? null : at / 1_000;
}
