/**
 * Makes the Grafana dashboards in deploy/grafana/dashboards: `npm run dashboards`. A test holds the files to what this
 * makes, and every query to what a real Prometheus has of a busy daemon.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import { StackingConfigBuilder, StackingMode } from "@grafana/grafana-foundation-sdk/common";
import type { Panel } from "@grafana/grafana-foundation-sdk/dashboard";
import {
  type Dashboard,
  DashboardBuilder,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeSeriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

const DATASOURCE = { type: "prometheus", uid: "$datasource" };
const HOST = 'instance="$instance"';
const GPU = `${HOST}, gpu_id="$gpu"`;
/** Of Grafana's 24 columns. */
const SMALL = { width: 4, height: 4 };
const HALF = { width: 12, height: 8 };

interface Shown {
  readonly title: string;
  readonly description: string;
  /** Grafana's name of the unit. */
  readonly unit: string;
  /** What to draw, each with the text of its legend. */
  readonly queries: Readonly<Record<string, string>>;
  readonly stacked?: true;
}

function stat(shown: Shown): Builder<Panel> {
  return queried(new StatBuilder(), shown).height(SMALL.height).span(SMALL.width);
}

function graph(shown: Shown): Builder<Panel> {
  const builder = queried(new TimeSeriesBuilder(), shown).height(HALF.height).span(HALF.width).min(0).fillOpacity(10);
  return shown.stacked === true ? builder.stacking(new StackingConfigBuilder().mode(StackingMode.Normal)) : builder;
}

function queried<B extends StatBuilder | TimeSeriesBuilder>(builder: B, shown: Shown): B {
  builder.title(shown.title).description(shown.description).unit(shown.unit).datasource(DATASOURCE);
  for (const [legend, expr] of Object.entries(shown.queries)) {
    builder.withTarget(new DataqueryBuilder().expr(expr).legendFormat(legend).datasource(DATASOURCE));
  }
  return builder;
}

function dashboard(uid: string, title: string, description: string): DashboardBuilder {
  return new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(["gpu-orchestrator"])
    .refresh("15s")
    .time({ from: "now-6h", to: "now" })
    .timezone("browser")
    .withVariable(new DatasourceVariableBuilder("datasource").label("Prometheus").type("prometheus"))
    .withVariable(variable("instance", "Host", "label_values(gpu_orchestrator_build_info, instance)"));
}

function variable(name: string, label: string, query: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name).label(label).query(query).datasource(DATASOURCE).refresh(2).sort(1);
}

function host(): Dashboard {
  return dashboard("gpu-orchestrator-host", "GPU host", "Who holds the GPUs of one host, who waits, and how it does.")
    .withRow(new RowBuilder("Now"))
    .withPanel(
      stat({
        title: "Free",
        description: "GPUs that an exclusive request could be granted now.",
        unit: "short",
        queries: { free: `gpu_orchestrator_gpus_available{${HOST}}` },
      }),
    )
    .withPanel(
      stat({
        title: "Leased",
        description: "GPUs that are leased or offered, whole or in part.",
        unit: "short",
        queries: { leased: `gpu_allocator_gpus_allocated_total{${HOST}}` },
      }),
    )
    .withPanel(
      stat({
        title: "Out of service",
        description: "GPUs that are lost, unhealthy, quarantined, degraded, unknown, cordoned or used by strangers.",
        unit: "short",
        queries: {
          out: `sum(gpu_orchestrator_gpu_state{${HOST}, state=~"lost|unhealthy|quarantined|degraded|unknown|cordoned|occupied"})`,
        },
      }),
    )
    .withPanel(
      stat({
        title: "Waiting",
        description: "Requests in the queue.",
        unit: "short",
        queries: { waiting: `gpu_orchestrator_queue_depth{${HOST}}` },
      }),
    )
    .withPanel(
      stat({
        title: "Idle leases",
        description: "Leases without a TTL whose GPUs nobody has used for allocator.idle_after.",
        unit: "short",
        queries: { idle: `sum(gpu_orchestrator_idle_leases{${HOST}}) or vector(0)` },
      }),
    )
    .withPanel(
      stat({
        title: "Age of the last reading",
        description: "Since the GPUs were last read. Nothing is granted on readings that are too old.",
        unit: "s",
        queries: { age: `time() - gpu_orchestrator_monitor_last_success_timestamp_seconds{${HOST}}` },
      }),
    )
    .withRow(new RowBuilder("Who"))
    .withPanel(
      graph({
        title: "GPUs by state",
        description: "How many GPUs are in each state.",
        unit: "short",
        stacked: true,
        queries: { "{{state}}": `sum by (state) (gpu_orchestrator_gpu_state{${HOST}})` },
      }),
    )
    .withPanel(
      graph({
        title: "GPUs held by service",
        description: "GPUs and MIG instances that each service holds or shares.",
        unit: "short",
        stacked: true,
        queries: { "{{service}}": `gpu_orchestrator_service_gpus_held{${HOST}}` },
      }),
    )
    .withPanel(
      graph({
        title: "GPUs held by principal",
        description: "The same, by whose key it was asked with.",
        unit: "short",
        stacked: true,
        queries: { "{{principal}}": `gpu_orchestrator_principal_gpus_held{${HOST}}` },
      }),
    )
    .withPanel(
      graph({
        title: "Waiting and granted",
        description: "Requests in the queue, and grants a minute: at once and from the queue.",
        unit: "short",
        queries: {
          waiting: `gpu_orchestrator_queue_depth{${HOST}}`,
          "{{status}} a minute": `60 * rate(gpu_scheduler_scheduled_total{${HOST}, status!="queued"}[$__rate_interval])`,
        },
      }),
    )
    .withRow(new RowBuilder("The GPUs"))
    .withPanel(
      graph({
        title: "Compute",
        description: "Share of the time in which a kernel ran, of each GPU.",
        unit: "percent",
        queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_utilization_percent{${HOST}}` },
      }),
    )
    .withPanel(
      graph({
        title: "Memory",
        description: "Memory in use on each GPU.",
        unit: "mbytes",
        queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_memory_used_mb{${HOST}}` },
      }),
    )
    .withPanel(
      graph({
        title: "Temperature",
        description: "Of each GPU's core.",
        unit: "celsius",
        queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_temperature_celsius{${HOST}}` },
      }),
    )
    .withPanel(
      graph({
        title: "Power",
        description: "What each GPU draws.",
        unit: "watt",
        queries: { "GPU {{gpu_id}}": `gpu_orchestrator_gpu_power_draw_watts{${HOST}}` },
      }),
    )
    .withRow(new RowBuilder("The daemon"))
    .withPanel(
      graph({
        title: "Requests",
        description: "Requests answered a second, by status.",
        unit: "reqps",
        queries: {
          "{{status}}": `sum by (status) (rate(gpu_orchestrator_http_requests_total{${HOST}}[$__rate_interval]))`,
        },
      }),
    )
    .withPanel(
      graph({
        title: "Time of an answer",
        description: "From a request's arrival to the end of its answer: the median, and what 99 of 100 stay below.",
        unit: "s",
        queries: Object.fromEntries(
          [0.5, 0.99].map((share) => [
            `${share * 100} %`,
            `histogram_quantile(${share}, sum by (le) (rate(gpu_orchestrator_http_request_duration_seconds_bucket{${HOST}}[$__rate_interval])))`,
          ]),
        ),
      }),
    )
    .withPanel(
      graph({
        title: "Webhooks",
        description: "Attempts to deliver a webhook a minute, by what came of them.",
        unit: "short",
        queries: {
          "{{outcome}}": `60 * sum by (outcome) (rate(gpu_orchestrator_webhook_attempts_total{${HOST}}[$__rate_interval]))`,
        },
      }),
    )
    .withPanel(
      graph({
        title: "Processor and memory of the daemon",
        description: "Share of a core, and resident memory.",
        unit: "short",
        queries: {
          cores: `rate(process_cpu_seconds_total{${HOST}, job="gpu-orchestrator"}[$__rate_interval])`,
          "memory (GiB)": `process_resident_memory_bytes{${HOST}, job="gpu-orchestrator"} / 1073741824`,
        },
      }),
    )
    .build();
}

function gpu(): Dashboard {
  const indices = `label_values(gpu_orchestrator_gpu_state{${HOST}}, gpu_id)`;
  return dashboard("gpu-orchestrator-gpu", "One GPU", "How one GPU does, and what it was.")
    .withVariable(variable("gpu", "GPU", indices))
    .withPanel(
      stat({
        title: "State",
        description: "The state that it is in now.",
        unit: "short",
        queries: { "{{state}}": `gpu_orchestrator_gpu_state{${GPU}} == 1` },
      }),
    )
    .withPanel(
      stat({
        title: "Memory",
        description: "Memory in use, of what the GPU has.",
        unit: "mbytes",
        queries: {
          used: `gpu_orchestrator_gpu_memory_used_mb{${GPU}}`,
          total: `gpu_orchestrator_gpu_memory_total_mb{${GPU}}`,
        },
      }),
    )
    .withPanel(
      stat({
        title: "Leases that share it",
        description: "0 when it is free, or has one lease alone.",
        unit: "short",
        queries: { leases: `gpu_orchestrator_gpu_shared_leases{${GPU}}` },
      }),
    )
    .withPanel(
      graph({
        title: "State",
        description: "Which state it was in.",
        unit: "short",
        stacked: true,
        queries: { "{{state}}": `gpu_orchestrator_gpu_state{${GPU}}` },
      }),
    )
    .withPanel(
      graph({
        title: "What is wrong with it",
        description: "Told of a leased GPU too, whose state is leased.",
        unit: "short",
        queries: { "{{state}}": `gpu_orchestrator_gpu_ailing{${GPU}}` },
      }),
    )
    .withPanel(
      graph({
        title: "Compute",
        description: "Share of the time in which a kernel ran.",
        unit: "percent",
        queries: { compute: `gpu_orchestrator_gpu_utilization_percent{${GPU}}` },
      }),
    )
    .withPanel(
      graph({
        title: "Memory",
        description: "In use, and reserved by leases that share the GPU.",
        unit: "bytes",
        queries: {
          used: `gpu_orchestrator_gpu_memory_used_mb{${GPU}} * 1048576`,
          reserved: `gpu_orchestrator_gpu_shared_memory_reserved_bytes{${GPU}}`,
        },
      }),
    )
    .withPanel(
      graph({
        title: "Temperature",
        description: "Of its core.",
        unit: "celsius",
        queries: { temperature: `gpu_orchestrator_gpu_temperature_celsius{${GPU}}` },
      }),
    )
    .withPanel(
      graph({
        title: "Power",
        description: "What it draws.",
        unit: "watt",
        queries: { power: `gpu_orchestrator_gpu_power_draw_watts{${GPU}}` },
      }),
    )
    .build();
}

/** The text of each file, by its name. */
export function dashboards(): Readonly<Record<string, string>> {
  const text = (made: Dashboard) => `${JSON.stringify(made, null, 2)}\n`;
  return { "host.json": text(host()), "gpu.json": text(gpu()) };
}

if (import.meta.main) {
  const folder = fileURLToPath(new URL("../deploy/grafana/dashboards/", import.meta.url));
  for (const [name, text] of Object.entries(dashboards())) writeFileSync(folder + name, text);
}
