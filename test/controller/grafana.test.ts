/** The controller's dashboards and alerts, by a real Prometheus that scrapes a controller with life. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { controllerDashboards } from "../../scripts/dashboards.ts";
import { eventually } from "../e2e/daemon.ts";
import { TestPrometheus } from "../e2e/test-prometheus.ts";
import { isInstalled } from "../metrics/scrape.ts";
import { begin, end, ends, running, server, started } from "./fake-cluster.ts";

const hasPrometheus = isInstalled("prometheus");
/** The load of replicas is read every 15 s, and a rate takes two looks. */
const LONG_MS = 120_000;

/** As vLLM's, of an engine that is asked all the time. */
async function engine(): Promise<number> {
  let count = 0;
  const http = createServer((_req, res) => {
    count += 100;
    res.end(`vllm:num_requests_waiting{engine="0"} 1
vllm:num_requests_running{engine="0"} 2
vllm:kv_cache_usage_perc{engine="0"} 0.4
vllm:request_success_total{engine="0"} ${count}
vllm:generation_tokens_total{engine="0"} ${count * 20}
vllm:prefix_cache_queries_total{engine="0"} ${count * 10}
vllm:prefix_cache_hits_total{engine="0"} ${count * 4}
vllm:e2e_request_latency_seconds_bucket{engine="0",le="1.0"} ${count * 0.9}
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf"} ${count}
`);
  });
  await new Promise<void>((listening) => http.listen(0, "127.0.0.1", listening));
  onTestFinished(() => {
    http.closeAllConnections();
    http.close();
  });
  return (http.address() as AddressInfo).port;
}

function queriesOf(text: string): string[] {
  interface Panel {
    readonly targets?: readonly { readonly expr: string }[];
    readonly panels?: readonly Panel[];
  }
  const all = (JSON.parse(text) as { panels: Panel[] }).panels.flatMap((one) => [one, ...(one.panels ?? [])]);
  return all.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
}

describe.skipIf(!hasPrometheus)("a controller with life (needs Debian's package prometheus)", () => {
  beforeEach(begin);
  afterEach(end);

  test("has data for every query of its dashboards and of its alerts, and measures nothing that nobody sees", {
    timeout: LONG_MS,
  }, async () => {
    await running();
    const port = await engine();
    for (const pod of server.all("pods")) {
      const [container] = pod.spec.containers;
      const ports = [{ name: "http", containerPort: port }];
      const at = (type: string) => ({ type, status: "True", lastTransitionTime: "2026-01-01T00:00:09Z" });
      server.set(`/api/v1/namespaces/ns/pods/${pod.metadata.name}`, {
        ...pod,
        spec: { ...pod.spec, containers: [{ ...container, ports }] },
        status: { ...pod.status, conditions: [at("PodScheduled"), at("Ready")] },
      });
    }
    const { port: open } = await started.open.listen("127.0.0.1", 0);
    ends.push(() => started.open.drain());
    const instance = `127.0.0.1:${open}`;
    const prometheus = await TestPrometheus.scraping(instance, "llm-orchestrator");
    const filled = (expr: string) =>
      expr
        .replaceAll("$instance", instance)
        .replaceAll("$namespace", "ns")
        .replaceAll("$workload", "chat")
        .replaceAll("$__rate_interval", "30s");
    const queries = Object.values(controllerDashboards()).flatMap(queriesOf).map(filled);
    expect(queries.length).toBeGreaterThan(40);
    const { groups } = parse(readFileSync("deploy/prometheus/controller-alerts.yml", "utf8"));
    const alerts: string[] = groups.flatMap(({ rules }: { rules: { expr: string }[] }) =>
      rules.map(({ expr }) => expr),
    );
    const selectors = alerts.flatMap((expr) => [...expr.matchAll(/\bllm_orchestrator_\w+(?:\{[^}]*\})?/g)].map(String));
    for (const expr of [...queries, ...selectors]) {
      const found = await eventually(
        async () => (await prometheus.query(expr)).length,
        (series) => series > 0,
        60_000,
      ).catch(() => 0);
      expect(found, expr).toBeGreaterThan(0);
    }
    const page = await (await fetch(`http://${instance}/metrics`)).text();
    const names = [...page.matchAll(/^# TYPE (llm_orchestrator_\w+)/gm)].map(([, name]) => String(name));
    const looked = [...queries, ...alerts].join("\n");
    expect(names.filter((name) => !looked.includes(name))).toEqual([]);
  });
});

test("each alert of the controller is seen to fire by one test of rules, and to keep silent by another", () => {
  const read = (name: string) => parse(readFileSync(`deploy/prometheus/${name}`, "utf8"));
  const { tests } = read("controller-alerts.test.yml");
  const names = read("controller-alerts.yml")
    .groups.flatMap(({ rules }: { rules: { alert: string }[] }) => rules.map(({ alert }) => alert))
    .sort();
  // biome-ignore lint/suspicious/noExplicitAny: a test of rules, as promtool has it.
  type Any = any;
  const silent = tests.flatMap(({ alert_rule_test = [] }: Any) =>
    alert_rule_test
      .filter(({ exp_alerts = [] }: Any) => exp_alerts.length === 0)
      .map(({ alertname }: Any) => alertname),
  );
  const firing = tests.flatMap(({ promql_expr_test = [] }: Any) =>
    promql_expr_test
      .flatMap(({ exp_samples }: Any) => exp_samples)
      .flatMap(({ labels }: Any) => [...labels.matchAll(/alertname="(\w+)"/g)].map(([, name]) => name)),
  );
  expect([...new Set(silent)].sort()).toEqual(names);
  expect([...new Set(firing)].sort()).toEqual(names);
});
