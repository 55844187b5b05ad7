/**
 * The profile `watch` of the compose example, without containers: the configuration and the rules that it mounts, in
 * Debian's Prometheus, with Debian's Alertmanager and the built daemon at its side. Grafana is not packaged there; what
 * it is given is held by grafana.test.ts.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { eventually, isBuilt, startDaemon, temporaryFolder } from "../e2e/daemon.ts";
import { addressOf, ended, TestPrometheus } from "../e2e/test-prometheus.ts";
import { isInstalled } from "../metrics/scrape.ts";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const compose = parse(readFileSync(`${DEPLOY}compose.yaml`, "utf8"), { merge: true }) as Compose;
const WATCHERS = Object.entries(compose.services).filter(([, { profiles }]) => profiles.includes("watch"));
const canRun = isBuilt && isInstalled("prometheus") && isInstalled("prometheus-alertmanager");

interface Compose {
  readonly services: Record<string, { readonly profiles: string[]; readonly volumes?: string[] }>;
  readonly configs: Record<string, { readonly content: string }>;
}

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string }[] }[];
}

test("the files that the profile mounts are there", () => {
  expect(WATCHERS.map(([name]) => name).sort()).toEqual(["alertmanager", "grafana", "prometheus"]);
  const sources = WATCHERS.flatMap(([, { volumes = [] }]) => volumes.map((volume) => String(volume.split(":")[0])));
  const files = sources.filter((source) => source.startsWith("."));
  expect(files.length).toBeGreaterThan(2);
  for (const file of files) expect(existsSync(join(DEPLOY, file)), file).toBe(true);
});

describe(`Prometheus and Alertmanager${canRun ? "" : " (skipped: npm test builds, and installs both from Debian)"}`, {
  skip: !canRun,
}, () => {
  test("scrape the daemon and raise its alerts, configured as the compose example does it", {
    timeout: 60_000,
  }, async () => {
    const daemon = await startDaemon();
    onTestFinished(() => daemon.end().then(() => daemon.removeFolder()));
    const alertmanager = await startAlertmanager();
    // By the names that they have on the network of the containers, and as often as a test has time for.
    const config = (compose.configs.prometheus?.content ?? "")
      .replace("gpu-orchestrator:8086", daemon.url.replace("http://", ""))
      .replace("alertmanager:9093", alertmanager)
      .replace("scrape_interval: 15s", "scrape_interval: 1s, evaluation_interval: 1s");
    const rules = readFileSync(`${DEPLOY}prometheus/alerts.yml`, "utf8");
    const prometheus = await TestPrometheus.of({ "prometheus.yml": config, "alerts.yml": rules });
    await eventually(
      () => prometheus.value('up{job="gpu-orchestrator"}'),
      (up) => up === 1,
      20_000,
    );
    const { groups } = await prometheus.ask<{ groups: { rules: { name: string; health: string }[] }[] }>("rules");
    const names = (parse(rules) as Rules).groups.flatMap((group) => group.rules.map(({ alert }) => alert));
    expect(groups.flatMap((group) => group.rules.map(({ name }) => name))).toEqual(names);

    writeFileSync(join(daemon.folder, "config.yaml"), "nonsense: true\n");
    daemon.process.kill("SIGHUP");
    const raised = async () => {
      const answer = await fetch(`http://${alertmanager}/api/v2/alerts`);
      return (await answer.json()) as { labels: Record<string, string>; annotations: Record<string, string> }[];
    };
    const alerts = await eventually(raised, ({ length }) => length > 0, 30_000);
    expect(alerts.map(({ labels }) => labels.alertname)).toEqual(["GpuOrchestratorConfigReloadFailed"]);
    expect(alerts[0]?.annotations.runbook).toBe("docs/alerts.md#gpuorchestratorconfigreloadfailed");
  });
});

/** @returns its address: one receiver who hears nothing, as in the image. */
async function startAlertmanager(): Promise<string> {
  const folder = temporaryFolder();
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "alertmanager.yml");
  writeFileSync(file, "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n");
  const places = [
    `--config.file=${file}`,
    `--storage.path=${join(folder, "data")}`,
    "--web.listen-address=127.0.0.1:0",
  ];
  const args = [...places, "--cluster.listen-address=", "--log.format=json"];
  const child = spawn("prometheus-alertmanager", args, { stdio: ["ignore", "ignore", "pipe"] });
  onTestFinished(() => ended(child));
  return addressOf(child, "Listening on");
}
