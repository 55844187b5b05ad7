import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { family, isInstalled, watched } from "../metrics/scrape.ts";

const FOLDER = fileURLToPath(new URL("../../deploy/prometheus/", import.meta.url));
const hasPromtool = isInstalled("promtool");

describe(`promtool${hasPromtool ? "" : " (skipped: install Debian's package prometheus)"}`, {
  skip: !hasPromtool,
}, () => {
  test("accepts the scrape configuration and its alert rules", () => {
    expect(promtool("check", "config", "prometheus.yml")).toMatchObject({ status: 0 });
  });

  test("sees each alert fire when it should, and none on a healthy host", () => {
    expect(promtool("test", "rules", "alerts.test.yml")).toMatchObject({ status: 0 });
  });

  function promtool(...args: string[]) {
    const { status, stdout, stderr } = spawnSync("promtool", args, { cwd: FOLDER, encoding: "utf8" });
    return { status, said: stdout + stderr };
  }
});

test("every series that an alert looks at is one that the daemon exposes", async () => {
  const { daemon, metrics, scrape } = await watched("h100x1", { idleAfterMs: 1_000 });
  // So do those of idle leases.
  await daemon.allocate();
  const unused = await daemon.source.probe();
  for (const ms of [0, 1_000]) {
    daemon.clock.advance(ms);
    await daemon.scheduler.observe({ ...unused, startedAt: daemon.clock.now(), finishedAt: daemon.clock.now() });
  }
  // Series of requests begin with the first one.
  metrics.observeRequest({ method: "GET", endpoint: "/gpu/status", status: 500, seconds: 0.01 });
  const series = await scrape();
  // Those of work are seen by a real Prometheus in grafana.test.ts: here nothing runs any.
  const selectors = alertExpressions()
    .filter((expression) => !/gpu_orchestrator_(work|cluster)_/.test(expression))
    .flatMap((expression) => [...expression.matchAll(/\b(?<name>gpu_[a-z_]+)(?:\{(?<matcher>[^}]*)\})?/g)]);
  expect(selectors.length).toBeGreaterThan(9);
  for (const { 0: selector, groups } of selectors) {
    const exposed = Object.keys(family(series, groups?.name ?? ""));
    expect(exposed, selector).not.toHaveLength(0);
    for (const [, label, , values] of (groups?.matcher ?? "").matchAll(/(\w+)(=~?)"([^"]*)"/g)) {
      for (const value of (values ?? "").split("|")) {
        expect(exposed.join("\n"), selector).toContain(`${label}="${value}"`);
      }
    }
  }
});

test("each alert is seen to fire by one test of rules, and not to by another", () => {
  const { tests } = parse(readFileSync(`${FOLDER}alerts.test.yml`, "utf8")) as { tests: RuleTest[] };
  const { groups } = parse(readFileSync(`${FOLDER}alerts.yml`, "utf8"));
  const names = groups.flatMap((group: { rules: Rule[] }) => group.rules.map(({ alert }) => alert)).sort();
  const silent = tests.flatMap(({ alert_rule_test = [] }) =>
    alert_rule_test.filter(({ exp_alerts = [] }) => exp_alerts.length === 0).map(({ alertname }) => alertname),
  );
  expect([...new Set(silent)].sort()).toEqual(names);
  const firing = tests.flatMap(({ promql_expr_test = [] }) =>
    promql_expr_test
      .filter(({ expr, exp_samples }) => expr.includes('alertstate="firing"') && exp_samples.length > 0)
      .flatMap(({ expr, exp_samples }) => [expr, ...exp_samples.map(({ labels }) => labels)])
      .flatMap((text) => [...text.matchAll(/alertname="(\w+)"/g)].map(([, name]) => name)),
  );
  expect([...new Set(firing)].sort()).toEqual(names);
});

test("each alert has a severity, a summary, a command to run, and a page that says what to do", () => {
  const { groups } = parse(readFileSync(`${FOLDER}alerts.yml`, "utf8"));
  const runbooks = readFileSync(`${FOLDER}../../docs/alerts.md`, "utf8");
  const rules = groups.flatMap((group: { rules: Rule[] }) => group.rules);
  for (const { alert, labels, annotations } of rules as Rule[]) {
    expect(labels.severity, alert).toMatch(/^(warning|critical)$/);
    expect(annotations.summary, alert).toMatch(/.{20}/);
    expect(annotations.description, alert).toMatch(/`[^`]{8,}`/);
    expect(annotations.runbook, alert).toBe(`docs/alerts.md#${alert.toLowerCase()}`);
    expect(runbooks, alert).toContain(`\n## ${alert}\n`);
  }
  expect(runbooks.match(/^## /gm)).toHaveLength(rules.length);
});

interface RuleTest {
  readonly alert_rule_test?: readonly { readonly alertname: string; readonly exp_alerts?: readonly unknown[] }[];
  readonly promql_expr_test?: readonly {
    readonly expr: string;
    readonly exp_samples: readonly { readonly labels: string }[];
  }[];
}

interface Rule {
  readonly alert: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook: string };
}

function alertExpressions(): string[] {
  const { groups } = parse(readFileSync(`${FOLDER}alerts.yml`, "utf8"));
  return groups.flatMap((group: { rules: { expr: string }[] }) => group.rules.map((rule) => rule.expr));
}
