/** What dashboards are made of: a figure, a graph, and the frame around them. */
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import { StackingConfigBuilder, StackingMode } from "@grafana/grafana-foundation-sdk/common";
import {
  DashboardBuilder,
  DatasourceVariableBuilder,
  type Panel,
  QueryVariableBuilder,
  RowBuilder,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeSeriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

const DATASOURCE = { type: "prometheus", uid: "$datasource" };
/** Matches the host that is chosen. */
export const HOST = 'instance="$instance"';
export const GPU = `${HOST}, gpu_id="$gpu"`;
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

export function stat(shown: Shown): Builder<Panel> {
  return queried(new StatBuilder(), shown).height(SMALL.height).span(SMALL.width);
}

export function graph(shown: Shown): Builder<Panel> {
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

const HOSTS = "label_values(gpu_orchestrator_build_info, instance)";

export function dashboard(
  uid: string,
  title: string,
  description: string,
  instance = variable("instance", "Host", HOSTS),
): DashboardBuilder {
  return new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(["gpu-orchestrator"])
    .refresh("15s")
    .time({ from: "now-6h", to: "now" })
    .timezone("browser")
    .withVariable(new DatasourceVariableBuilder("datasource").label("Prometheus").type("prometheus"))
    .withVariable(instance);
}

export function variable(name: string, label: string, query: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name).label(label).query(query).datasource(DATASOURCE).refresh(2).sort(1);
}

/** The median, and what 99 of 100 stay below, of a histogram of seconds. */
export function quantiles(histogram: string, of = ""): Readonly<Record<string, string>> {
  const rate = `sum by (le) (rate(${histogram}_bucket{${HOST}}[$__rate_interval]))`;
  return Object.fromEntries(
    [0.5, 0.99].map((share) => [`${of}${share * 100} %`, `histogram_quantile(${share}, ${rate})`]),
  );
}

/** So many a minute. */
export function aMinute(counter: string, by: string, more = ""): string {
  return `60 * sum by (${by}) (rate(${counter}{${HOST}${more}}[$__rate_interval]))`;
}

/** Rows of panels, by their titles; those without one come first. */
export function laidOut(builder: DashboardBuilder, rows: Readonly<Record<string, readonly Builder<Panel>[]>>) {
  for (const [title, panels] of Object.entries(rows)) {
    if (title !== "") builder.withRow(new RowBuilder(title));
    for (const panel of panels) builder.withPanel(panel);
  }
  return builder.build();
}
