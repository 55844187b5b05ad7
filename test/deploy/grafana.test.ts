/** The dashboards: what the script makes, whole, and of queries that have data. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { controllerDashboards, dashboards } from "../../scripts/dashboards.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "../e2e/daemon.ts";
import { TestPrometheus } from "../e2e/test-prometheus.ts";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { isInstalled } from "../metrics/scrape.ts";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const hasPrometheus = isInstalled("prometheus") && isBuilt;

/** It runs work, too. */
const WORK =
  "work: { enabled: true, allow_unauthenticated: true, allow_root: true, allow_same_user: true, " +
  "executors: { echo: { type: echo } } }\n";

/** Its labels are what there is to see: the dashboards' list of hosts is made of it. */
const IDENTITY = new Set(["gpu_orchestrator_build_info"]);

interface Panel {
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly { readonly expr: string }[];
  readonly panels?: readonly Panel[];
}

function panelsOf(text: string): readonly Panel[] {
  const all = (JSON.parse(text) as { panels: Panel[] }).panels;
  return all.flatMap((panel) => (panel.type === "row" ? (panel.panels ?? []) : [panel]));
}

test("the dashboards are what `npm run dashboards` makes, with a unit and a description for every panel", () => {
  for (const [name, text] of Object.entries({ ...dashboards(), ...controllerDashboards() })) {
    expect(readFileSync(`${DEPLOY}grafana/dashboards/${name}`, "utf8"), name).toBe(text);
    const panels = panelsOf(text);
    expect(panels.length).toBeGreaterThan(5);
    for (const { title, description, fieldConfig } of panels) {
      expect(description, title).toMatch(/^[A-Z0-9].{10,}\.$/);
      expect(fieldConfig?.defaults.unit, title).toBeTruthy();
    }
    expect(new Set(panels.map(({ title, type }) => `${title} ${type}`)).size).toBe(panels.length);
  }
});

test("what Grafana is provisioned with finds the Prometheus and the folder of the compose example, and is what the panels ask", () => {
  const compose = parse(readFileSync(`${DEPLOY}compose.yaml`, "utf8"), { merge: true });
  const mounts = new Map<string, string>(
    compose.services.grafana.volumes.map((volume: string) => volume.split(":").slice(0, 2).reverse()),
  );
  expect(mounts.get("/etc/grafana/provisioning")).toBe("./grafana/provisioning");
  const provisioned = (file: string) => parse(readFileSync(`${DEPLOY}grafana/provisioning/${file}`, "utf8"));
  const sources = provisioned("datasources/prometheus.yaml");
  const folders = provisioned("dashboards/gpu-orchestrator.yaml");
  expect([sources.apiVersion, folders.apiVersion]).toEqual([1, 1]);
  const [source] = sources.datasources;
  expect(source).toMatchObject({ type: "prometheus", access: "proxy", isDefault: true });
  // By its name on the network of the containers, at the port that it has by itself.
  const { hostname, port } = new URL(source.url);
  expect([Object.keys(compose.services).includes(hostname), port]).toEqual([true, "9090"]);
  expect(folders.providers).toHaveLength(1);
  expect(folders.providers[0].type).toBe("file");
  expect(mounts.get(folders.providers[0].options.path)).toBe("./grafana/dashboards");
  for (const text of Object.values({ ...dashboards(), ...controllerDashboards() })) {
    const asked = [...text.matchAll(/"datasource": \{[^}]*"uid": "([^"]*)"/g)].map(([, uid]) => uid);
    expect(asked.length).toBeGreaterThan(5);
    // One that is chosen at the top, among those of that kind: the one that is provisioned by itself.
    expect([...new Set(asked)]).toEqual(["$datasource"]);
    const { templating } = JSON.parse(text) as {
      templating: { list: { name: string; type: string; query?: unknown }[] };
    };
    const choice = templating.list.find(({ name }) => name === "datasource");
    expect(choice).toMatchObject({ type: "datasource", query: source.type });
  }
});

describe(`a real Prometheus${hasPrometheus ? "" : " (skipped: npm test builds, and installs Debian's prometheus)"}`, {
  skip: !hasPrometheus,
}, () => {
  test("has data for every query of the dashboards and for all that the alerts look at, on a busy host", async () => {
    // A host whose programs do nothing: simulated ones always do something, and no lease of theirs is ever idle.
    const smi = new FakeNvidiaSmi({ mode: "gpus", count: 8 });
    onTestFinished(() => smi[Symbol.dispose]());
    const monitoring = `{ refresh_interval: 1s, nvidia_smi_path: ${smi.path} }`;
    const quotas = "quotas: { services: { wide: { max_gpus: 8 } } }\n";
    const config = `allocator: { idle_after: 1s }\nmonitoring: ${monitoring}\n${quotas}${WORK}`;
    const daemon = await startDaemon({ simulate: null, config });
    onTestFinished(async () => {
      await daemon.end();
      daemon.removeFolder();
    });
    await busy(daemon);
    const instance = daemon.url.replace("http://", "");
    const prometheus = await TestPrometheus.scraping(instance, "gpu-orchestrator");
    const filled = (expr: string) =>
      expr.replaceAll("$instance", instance).replaceAll("$gpu", "0").replaceAll("$__rate_interval", "30s");
    const queries = Object.values(dashboards()).flatMap((text) =>
      panelsOf(text).flatMap(({ targets = [] }) => targets.map(({ expr }) => filled(expr))),
    );
    expect(queries.length).toBeGreaterThan(25);
    const selectors = alertExpressions().flatMap((expr) =>
      [...expr.matchAll(/\bgpu_[a-z_]+(?:\{[^}]*\})?/g)].map(([one]) => one),
    );
    expect(selectors.length).toBeGreaterThan(9);
    // What there is none of on a host that is well, or alone.
    const rare = (expr: string) => /status="500"|gpu_orchestrator_cluster_/.test(expr);
    for (const expr of [...queries, ...selectors.filter((one) => !rare(one))]) {
      const found = await eventually(
        async () => (await daemon.call("GET", "/healthz")) && (await prometheus.query(expr)).length,
        (series) => series > 0,
        15_000,
      ).catch(() => 0);
      expect(found, expr).toBeGreaterThan(0);
    }
    // And the other way round: nothing is measured that nobody can look at.
    const { body } = await daemon.call("GET", "/metrics");
    const metrics = [...body.matchAll(/^# TYPE (gpu_\w+)/gm)].map(([, name]) => String(name));
    expect(metrics.length).toBeGreaterThan(40);
    const looked = [...queries, ...alertExpressions()].join("\n");
    expect(metrics.filter((name) => !looked.includes(name) && !IDENTITY.has(name))).toEqual([]);
  });
});

/** Leases, an idle one, somebody who waits, and webhooks. */
async function busy(daemon: TestDaemon): Promise<void> {
  const ready = () => daemon.call("GET", "/readyz");
  await eventually(ready, ({ status }) => status === 200);
  const hook = { webhook_url: "http://127.0.0.1:9/" };
  await daemon.allocate({ service_name: "part", sharing: "shared", min_memory_mb: 8_192 });
  const short = await daemon.allocate({ service_name: "short", ...hook });
  await daemon.allocate({ service_name: "wide", required_gpus: 6 });
  await daemon.allocate({ service_name: "waits", required_gpus: 8, ...hook });
  await daemon.release(short.body.id);
  await daemon.allocate({ service_name: "next", ...hook });
  const spec = { taskType: "echo", resources: { hardware: {} } };
  const yaml = JSON.stringify({ apiVersion: "gpu-orchestrator/v1", kind: "Task", metadata: { name: "says" }, spec });
  const { body } = await daemon.call("POST", "/api/v1/tasks", { yaml });
  const look = () => daemon.call("GET", `/api/v1/tasks/${body.task_id}?wait=10s`);
  await eventually(look, (answer) => answer.body.status === "DONE", 60_000);
}

function alertExpressions(): string[] {
  const { groups } = parse(readFileSync(`${DEPLOY}prometheus/alerts.yml`, "utf8"));
  return groups.flatMap((group: { rules: { expr: string }[] }) => group.rules.map((rule) => rule.expr));
}
