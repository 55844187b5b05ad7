/**
 * Makes the Grafana dashboards in deploy/grafana/dashboards: `npm run dashboards`. A test holds the files to what this
 * makes, and every query to what a real Prometheus has of a busy daemon.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import type { Dashboard, Panel } from "@grafana/grafana-foundation-sdk/dashboard";
import { clusterDashboards } from "./cluster-dashboards.ts";
import { aMinute, dashboard, GPU, graph, HOST, laidOut, quantiles, stat, variable } from "./dashboard-panels.ts";

function host(): Dashboard {
  const frame = dashboard(
    "gpu-orchestrator-host",
    "GPU host",
    "Who holds the GPUs of one host, who waits, and how it does.",
  );
  return laidOut(frame, {
    Now: now(),
    Who: who(),
    "Leases and the queue": leasesAndQueue(),
    "The GPUs": theGpus(),
    "Readings, database and limits": readings(),
    Work: work(),
    "The daemon": theDaemon(),
  });
}

function now(): Builder<Panel>[] {
  return [
    stat({
      title: "Free",
      description: "GPUs that an exclusive request could be granted now.",
      unit: "short",
      queries: { free: `gpu_orchestrator_gpus_available{${HOST}}` },
    }),
    stat({
      title: "Leased",
      description: "GPUs that are leased or offered, whole or in part.",
      unit: "short",
      queries: { leased: `gpu_allocator_gpus_allocated_total{${HOST}}` },
    }),
    stat({
      title: "Out of service",
      description: "GPUs that are lost, unhealthy, quarantined, degraded, unknown, cordoned or used by strangers.",
      unit: "short",
      queries: {
        out: `sum(gpu_orchestrator_gpu_state{${HOST}, state=~"lost|unhealthy|quarantined|degraded|unknown|cordoned|occupied"})`,
      },
    }),
    stat({
      title: "Waiting",
      description: "Requests in the queue.",
      unit: "short",
      queries: { waiting: `gpu_orchestrator_queue_depth{${HOST}}` },
    }),
    stat({
      title: "Idle leases",
      description: "Leases without a TTL whose GPUs nobody has used for allocator.idle_after.",
      unit: "short",
      queries: { idle: `sum(gpu_orchestrator_idle_leases{${HOST}}) or vector(0)` },
    }),
    stat({
      title: "Age of the last reading",
      description: "Since the GPUs were last read. Nothing is granted on readings that are too old.",
      unit: "s",
      queries: { age: `time() - gpu_orchestrator_monitor_last_success_timestamp_seconds{${HOST}}` },
    }),
  ];
}

function who(): Builder<Panel>[] {
  return [
    graph({
      title: "GPUs by state",
      description: "How many GPUs are in each state.",
      unit: "short",
      stacked: true,
      queries: { "{{state}}": `sum by (state) (gpu_orchestrator_gpu_state{${HOST}})` },
    }),
    graph({
      title: "GPUs held by service",
      description: "GPUs and MIG instances that each service holds or shares.",
      unit: "short",
      stacked: true,
      queries: { "{{service}}": `gpu_orchestrator_service_gpus_held{${HOST}}` },
    }),
    graph({
      title: "GPUs held by principal",
      description: "The same, by whose key it was asked with.",
      unit: "short",
      stacked: true,
      queries: { "{{principal}}": `gpu_orchestrator_principal_gpus_held{${HOST}}` },
    }),
    graph({
      title: "Waiting and granted",
      description: "Requests in the queue, and grants a minute: at once and from the queue.",
      unit: "short",
      queries: {
        waiting: `gpu_orchestrator_queue_depth{${HOST}}`,
        "{{status}} a minute": `60 * rate(gpu_scheduler_scheduled_total{${HOST}, status!="queued"}[$__rate_interval])`,
      },
    }),
  ];
}

function leasesAndQueue(): Builder<Panel>[] {
  return [
    graph({
      title: "Leases",
      description: "Leases and offers that are held, and what becomes of requests, a minute.",
      unit: "short",
      queries: {
        active: `gpu_orchestrator_allocations_active{${HOST}}`,
        "{{status}} a minute": aMinute("gpu_orchestrator_allocations_total", "status"),
      },
    }),
    graph({
      title: "Time in the queue",
      description: "From a request to its grant; of those that were first in the line, how long they were.",
      unit: "s",
      queries: {
        ...quantiles("gpu_scheduler_queue_wait_seconds"),
        ...quantiles("gpu_orchestrator_head_wait_seconds", "first in the line, "),
      },
    }),
    graph({
      title: "Passed while waiting",
      description: "Requests a minute that went before the first in the line, which could not use the GPUs yet.",
      unit: "short",
      queries: {
        passes: `60 * rate(gpu_orchestrator_head_passes_total{${HOST}}[$__rate_interval])`,
      },
    }),
    graph({
      title: "Leases with a warning",
      description: "Leases that are to be taken back, and shared ones that use more memory than they reserved.",
      unit: "short",
      queries: {
        "{{reason}}": `gpu_orchestrator_leaving_leases{${HOST}}`,
        "over their memory": `sum(gpu_orchestrator_gpu_leases_over_memory{${HOST}})`,
      },
    }),
    graph({
      title: "Quotas",
      description: "What the accounts that the settings name have, and may have.",
      unit: "short",
      queries: {
        "{{kind}} {{name}} {{resource}}": `gpu_orchestrator_quota_used{${HOST}}`,
        "{{kind}} {{name}} {{resource}}, at most": `gpu_orchestrator_quota_limit{${HOST}}`,
      },
    }),
  ];
}

function theGpus(): Builder<Panel>[] {
  return [
    graph({
      title: "Compute",
      description: "Share of the time in which a kernel ran, of each GPU.",
      unit: "percent",
      queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_utilization_percent{${HOST}}` },
    }),
    graph({
      title: "Memory",
      description: "Memory in use on each GPU.",
      unit: "mbytes",
      queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_memory_used_mb{${HOST}}` },
    }),
    graph({
      title: "Temperature",
      description: "Of each GPU's core.",
      unit: "celsius",
      queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_temperature_celsius{${HOST}}` },
    }),
    graph({
      title: "Power",
      description: "What each GPU draws.",
      unit: "watt",
      queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_power_draw_watts{${HOST}}` },
    }),
    graph({
      title: "GPUs without new leases",
      description: "GPUs that an admin has cordoned, and those of them that are empty, of all.",
      unit: "short",
      queries: {
        all: `gpu_orchestrator_gpus_total{${HOST}}`,
        cordoned: `gpu_orchestrator_gpus_cordoned{${HOST}}`,
        drained: `gpu_orchestrator_gpus_drained{${HOST}}`,
      },
    }),
    graph({
      title: "MIG instances",
      description: "By the state that they are in; 0 where no GPU is cut.",
      unit: "short",
      queries: {
        "{{state}}": `sum by (state) (gpu_orchestrator_mig_devices{${HOST}}) or vector(0)`,
      },
    }),
  ];
}

function readings(): Builder<Panel>[] {
  return [
    graph({
      title: "Reading the GPUs",
      description: "How long 99 of 100 attempts took less than.",
      unit: "s",
      queries: {
        time: `histogram_quantile(0.99, sum by (le) (rate(gpu_orchestrator_monitor_probe_duration_seconds_bucket{${HOST}}[$__rate_interval])))`,
      },
    }),
    graph({
      title: "Trouble with readings",
      description:
        "Attempts a minute that failed, those that could not be ended, and what the daemon does not get to see.",
      unit: "short",
      queries: {
        "failed a minute": `60 * sum(rate(gpu_orchestrator_monitor_probe_failures_total{${HOST}}[$__rate_interval])) or vector(0)`,
        "given up": `gpu_orchestrator_monitor_probes_abandoned_total{${HOST}}`,
        stuck: `gpu_orchestrator_monitor_probe_stuck{${HOST}}`,
        "processes hidden": `gpu_orchestrator_monitor_processes_hidden{${HOST}}`,
        "kernel log readable": `gpu_orchestrator_kernel_log_readable{${HOST}} or vector(0)`,
        simulated: `gpu_orchestrator_monitor_simulated{${HOST}}`,
      },
    }),
    graph({
      title: "Database",
      description: "Whether it takes changes, and how often it did not.",
      unit: "short",
      queries: {
        healthy: `gpu_orchestrator_storage_healthy{${HOST}}`,
        outages: `gpu_orchestrator_storage_outages_total{${HOST}}`,
      },
    }),
    graph({
      title: "Streams and limits",
      description: "Readers of events, and calls a minute that came to a limit of what one client may have.",
      unit: "short",
      queries: {
        streams: `gpu_orchestrator_event_streams{${HOST}}`,
        "at the limit of {{limit}}, a minute": `${aMinute("gpu_orchestrator_limit_reached_total", "limit")} or vector(0)`,
      },
    }),
    graph({
      title: "Age of the settings",
      description: "Since they were last read without an error.",
      unit: "s",
      queries: {
        age: `time() - gpu_orchestrator_config_last_reload_success_timestamp_seconds{${HOST}}`,
      },
    }),
  ];
}

function started(share: number): string {
  const rate = `rate(gpu_orchestrator_work_start_seconds_bucket{${HOST}}[1h])`;
  return `histogram_quantile(${share}, sum by (le) (${rate}))`;
}

/** Nothing of a host that runs no work, and of a host that is alone nothing of others. */
function work(): Builder<Panel>[] {
  return [
    graph({
      title: "Runs",
      description: "Runs of services and tasks that have not ended, by state; 0 where no work is run.",
      unit: "short",
      stacked: true,
      queries: { "{{state}}": `sum by (state) (gpu_orchestrator_work_runs{${HOST}}) or vector(0)` },
    }),
    graph({
      title: "Tasks",
      description: "Tasks in the books, by status; 0 where no work is run.",
      unit: "short",
      stacked: true,
      queries: { "{{status}}": `sum by (status) (gpu_orchestrator_work_tasks{${HOST}}) or vector(0)` },
    }),
    graph({
      title: "Runs that have ended",
      description: "In an hour, by how they ended; 0 where no work is run.",
      unit: "short",
      queries: {
        "{{reason}}": `sum by (reason) (increase(gpu_orchestrator_work_run_ends_total{${HOST}}[1h])) or vector(0)`,
      },
    }),
    graph({
      title: "Time to start",
      description:
        "From a run being told to its worker, with its lease, to its first process: half and 99 % of them; 0 without any.",
      unit: "s",
      queries: {
        "50 %": `(${started(0.5)} >= 0) or vector(0)`,
        "99 %": `(${started(0.99)} >= 0) or vector(0)`,
      },
    }),
    graph({
      title: "Workers",
      description: "Whether each was heard of lately, what it stopped that nobody wanted, and what it cannot end.",
      unit: "short",
      queries: {
        "heard of {{node}}": `gpu_orchestrator_work_worker_up{${HOST}} or vector(0)`,
        "strays stopped": `gpu_orchestrator_work_orphans_stopped_total{${HOST}} or vector(0)`,
        "runs that cannot be ended": `gpu_orchestrator_work_unkillable_runs{${HOST}} or vector(0)`,
      },
    }),
    graph({
      title: "Other hosts",
      description: "Of a controller: nodes that are heard of and those that are not, and whether Redis is there.",
      unit: "short",
      queries: {
        "nodes {{state}}": `gpu_orchestrator_cluster_nodes{${HOST}} or vector(0)`,
        "Redis is there": `gpu_orchestrator_cluster_broker_up{${HOST}} or vector(0)`,
      },
    }),
  ];
}

function theDaemon(): Builder<Panel>[] {
  return [
    graph({
      title: "Requests",
      description: "Requests answered a second, by status.",
      unit: "reqps",
      queries: {
        "{{status}}": `sum by (status) (rate(gpu_orchestrator_http_requests_total{${HOST}}[$__rate_interval]))`,
      },
    }),
    graph({
      title: "Time of an answer",
      description: "From a request's arrival to the end of its answer: the median, and what 99 of 100 stay below.",
      unit: "s",
      queries: quantiles("gpu_orchestrator_http_request_duration_seconds"),
    }),
    graph({
      title: "Webhooks",
      description: "Attempts to deliver a webhook a minute, by what came of them.",
      unit: "short",
      queries: {
        "{{outcome}}": `60 * sum by (outcome) (rate(gpu_orchestrator_webhook_attempts_total{${HOST}}[$__rate_interval]))`,
      },
    }),
    graph({
      title: "Processor and memory of the daemon",
      description: "Share of a core, and resident memory.",
      unit: "short",
      queries: {
        cores: `rate(process_cpu_seconds_total{${HOST}, job="gpu-orchestrator"}[$__rate_interval])`,
        "memory (GiB)": `process_resident_memory_bytes{${HOST}, job="gpu-orchestrator"} / 1073741824`,
      },
    }),
  ];
}

function gpu(): Dashboard {
  const indices = `label_values(gpu_orchestrator_gpu_state{${HOST}}, gpu_id)`;
  const frame = dashboard("gpu-orchestrator-gpu", "One GPU", "How one GPU does, and what it was.");
  return laidOut(frame.withVariable(variable("gpu", "GPU", indices)), { "": [...nowOfOne(), ...ofOne()] });
}

function nowOfOne(): Builder<Panel>[] {
  return [
    stat({
      title: "State",
      description: "The state that it is in now.",
      unit: "short",
      queries: { "{{state}}": `gpu_orchestrator_gpu_state{${GPU}} == 1` },
    }),
    stat({
      title: "Memory",
      description: "Memory in use, of what the GPU has.",
      unit: "mbytes",
      queries: {
        used: `gpu_orchestrator_gpu_memory_used_mb{${GPU}}`,
        total: `gpu_orchestrator_gpu_memory_total_mb{${GPU}}`,
      },
    }),
    stat({
      title: "Leases that share it",
      description: "0 when it is free, or has one lease alone.",
      unit: "short",
      queries: { leases: `gpu_orchestrator_gpu_shared_leases{${GPU}}` },
    }),
  ];
}

function ofOne(): Builder<Panel>[] {
  return [
    graph({
      title: "State",
      description: "Which state it was in.",
      unit: "short",
      stacked: true,
      queries: { "{{state}}": `gpu_orchestrator_gpu_state{${GPU}}` },
    }),
    graph({
      title: "What is wrong with it",
      description: "Told of a leased GPU too, whose state is leased.",
      unit: "short",
      queries: { "{{state}}": `gpu_orchestrator_gpu_ailing{${GPU}}` },
    }),
    graph({
      title: "Compute",
      description: "Share of the time in which a kernel ran.",
      unit: "percent",
      queries: { compute: `gpu_orchestrator_gpu_utilization_percent{${GPU}}` },
    }),
    graph({
      title: "Memory",
      description: "In use, and reserved by leases that share the GPU.",
      unit: "bytes",
      queries: {
        used: `gpu_orchestrator_gpu_memory_used_mb{${GPU}} * 1048576`,
        reserved: `gpu_orchestrator_gpu_shared_memory_reserved_bytes{${GPU}}`,
      },
    }),
    graph({
      title: "Temperature",
      description: "Of its core.",
      unit: "celsius",
      queries: { temperature: `gpu_orchestrator_gpu_temperature_celsius{${GPU}}` },
    }),
    graph({
      title: "Power",
      description: "What it draws.",
      unit: "watt",
      queries: { power: `gpu_orchestrator_gpu_power_draw_watts{${GPU}}` },
    }),
    graph({
      title: "Memory of its MIG instances",
      description: "In use on them, of what they have; 0 where it is not cut.",
      unit: "bytes",
      queries: {
        used: `sum(gpu_orchestrator_mig_device_memory_used_bytes{${GPU}}) or vector(0)`,
        total: `sum(gpu_orchestrator_mig_device_memory_total_bytes{${GPU}}) or vector(0)`,
      },
    }),
    graph({
      title: "Xid errors",
      description: "What the driver wrote of it into the kernel's log, by number; 0 where nothing.",
      unit: "short",
      queries: {
        "Xid {{xid}}": `sum by (xid) (gpu_orchestrator_gpu_xid_errors_total{${GPU}}) or vector(0)`,
      },
    }),
  ];
}

/** The text of each file, by its name. */
export function dashboards(): Readonly<Record<string, string>> {
  const text = (made: Dashboard) => `${JSON.stringify(made, null, 2)}\n`;
  return { "host.json": text(host()), "gpu.json": text(gpu()) };
}

/** Those of the controller. */
export function controllerDashboards(): Readonly<Record<string, string>> {
  const made = Object.entries(clusterDashboards());
  return Object.fromEntries(made.map(([name, one]) => [name, `${JSON.stringify(one, null, 2)}\n`]));
}

if (import.meta.main) {
  const folder = fileURLToPath(new URL("../deploy/grafana/dashboards/", import.meta.url));
  const all = { ...dashboards(), ...controllerDashboards() };
  for (const [name, text] of Object.entries(all)) writeFileSync(folder + name, text);
}
