/**
 * The two texts in which metrics leave the process, and which of them a scraper gets.
 *
 * Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and
 * https://prometheus.io/docs/specs/om/open_metrics_spec/ (OpenMetrics 1.0).
 */
import { type Metric, type OpenMetricsContentType, Registry } from "prom-client";

export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

/**
 * One set of metrics in both formats. prom-client's registry knows one format at a time and, for OpenMetrics, renames
 * its counters for good; so there are two registries, and the second holds views of the counters under names of their
 * own.
 */
export class Exposer {
  /** Where metrics are registered. */
  readonly registry = new Registry();
  readonly #openMetrics = new Registry<OpenMetricsContentType>();
  #mirrored = 0;

  constructor() {
    this.#openMetrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  }

  /** @param accept the header as sent; without one, or with one that names neither format, it is the plain text. */
  async render(accept: string | undefined): Promise<Exposition> {
    if (!prefersOpenMetrics(accept)) {
      return { contentType: Registry.PROMETHEUS_CONTENT_TYPE, body: await this.registry.metrics() };
    }
    this.#mirror();
    return { contentType: Registry.OPENMETRICS_CONTENT_TYPE, body: await this.#openMetrics.metrics() };
  }

  #mirror(): void {
    const metrics = this.registry.getMetricsAsArray() as unknown as Metric[];
    for (const metric of metrics.slice(this.#mirrored)) {
      // The view shares the values and has its own name: in OpenMetrics a counter's family is without `_total`.
      const view: Metric = Object.create(metric, { name: { value: nameOf(metric), writable: true } });
      this.#openMetrics.registerMetric(view);
    }
    this.#mirrored = metrics.length;
  }
}

function nameOf(metric: Metric): string {
  return (metric as unknown as { readonly name: string }).name;
}

/** Whether OpenMetrics 1.0 is wanted at least as much as any text that could be sent instead (RFC 9110, 12.5.1). */
function prefersOpenMetrics(accept: string | undefined): boolean {
  let openMetrics = 0;
  let text = 0;
  for (const range of (accept ?? "").toLowerCase().split(",")) {
    const [type, ...parameters] = range.split(";").map((part) => part.trim());
    const version = parameters.find((parameter) => parameter.startsWith("version="))?.slice("version=".length);
    const weight = weightOf(parameters);
    if (type === "application/openmetrics-text" && (version === undefined || version === "1.0.0")) {
      openMetrics = Math.max(openMetrics, weight);
    } else if (type === "text/plain") {
      text = Math.max(text, weight);
    }
  }
  return openMetrics > 0 && openMetrics >= text;
}

/** Quality from 0 to 1; 1 when none is given, 0 when it is not a number. */
function weightOf(parameters: readonly string[]): number {
  const quality = parameters.find((parameter) => parameter.startsWith("q="))?.slice("q=".length);
  if (quality === undefined) return 1;
  const weight = Number(quality);
  return weight >= 0 && weight <= 1 ? weight : 0;
}
