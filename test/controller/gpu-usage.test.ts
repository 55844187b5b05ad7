/** How busy GPUs are, as DCGM's exporter tells a Prometheus: a real one, where it is installed. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { GpuUsage } from "../../src/controller/kubernetes/gpu-usage.ts";
import { TestPrometheus } from "../e2e/test-prometheus.ts";
import { begin, controller, end, running, server, started, until } from "./fake-cluster.ts";

const hasPrometheus = spawnSync("prometheus", ["--version"]).status === 0;
const pod = (name: string, namespace = "ns") => ({ metadata: { name, namespace } }) as never;

async function serving(answer: (url: string) => string): Promise<string> {
  const there = createServer((req, res) => res.end(answer(req.url ?? "")));
  await new Promise<void>((listening) => there.listen(0, "127.0.0.1", listening));
  onTestFinished(() => void there.close());
  return `127.0.0.1:${(there.address() as AddressInfo).port}`;
}

const series = (metric: object, value: string) => ({ metric, value: [1_800_000_000, value] });
const vector = (...result: object[]) => JSON.stringify({ status: "success", data: { resultType: "vector", result } });

/** Asked, and answered. */
async function asked(usage: GpuUsage): Promise<GpuUsage> {
  usage.look(0);
  await expect.poll(() => usage.trouble, { timeout: 10_000, interval: 10 }).not.toBe("not asked yet");
  return usage;
}

describe("how busy GPUs are", () => {
  test.skipIf(!hasPrometheus)(
    "is told by pod and node, whether or not Prometheus honours the exporter's labels (needs prometheus)",
    async () => {
      const line = (gpu: number, of: string, value: number) =>
        `DCGM_FI_DEV_GPU_UTIL{gpu="${gpu}",UUID="GPU-${gpu}",Hostname="n1"${of}} ${value}\n`;
      const of = ',pod="chat-0",namespace="ns",container="llm-server"';
      const target = await serving(() => line(0, of, 80) + line(1, of, 40) + line(2, "", 12));
      for (const honors of [false, true]) {
        const labels = "labels: {pod: dcgm-exporter-x, namespace: gpu-operator}";
        const job = `job_name: dcgm, honor_labels: ${honors}, static_configs: [{targets: ["${target}"], ${labels}}]`;
        const prometheus = await TestPrometheus.of({
          "prometheus.yml": `global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs: [{${job}}]\n`,
        });
        await expect.poll(() => prometheus.query("DCGM_FI_DEV_GPU_UTIL"), { timeout: 20_000 }).toHaveLength(3);
        const usage = await asked(new GpuUsage(prometheus.url));
        expect(usage.trouble).toBeNull();
        expect(usage.of(pod("chat-0"))).toEqual({ gpu_utilization: 60 });
        expect(usage.of(pod("chat-0", "other"))).toEqual({});
        expect(usage.ofNode("n1")).toBe(44);
        expect(usage.ofNode("n2")).toBeNull();
      }
    },
    60_000,
  );

  test("is nothing where a figure is none, where nobody answers, or another thing than a Prometheus does", async () => {
    const odd = vector(
      series({ pod: "a", namespace: "ns" }, "NaN"),
      series({ pod: "b", namespace: "ns" }, "9223372036854775794"),
      series({ pod: "c", namespace: "ns" }, "0"),
    );
    const usage = await asked(new GpuUsage(`http://${await serving(() => odd)}`));
    expect(["a", "b", "c"].map((name) => usage.of(pod(name)))).toEqual([{}, {}, { gpu_utilization: 0 }]);
    for (const answer of ["<html>", '{"data": {"resultType": "matrix", "result": []}}']) {
      const there = await asked(new GpuUsage(`http://${await serving(() => answer)}`));
      expect([there.of(pod("c")), there.trouble]).toEqual([{}, expect.any(String)]);
    }
    const nobody = await asked(new GpuUsage("http://127.0.0.1:1"));
    expect([nobody.of(pod("c")), nobody.trouble]).toEqual([{}, expect.any(String)]);
  });

  test("is forgotten when nobody answers any more, and asked every 15 s", async () => {
    let [answer, count] = [vector(series({ pod: "c", namespace: "ns", Hostname: "n1" }, "50")), 0];
    const there = await serving(() => {
      count++;
      return answer;
    });
    const usage = await asked(new GpuUsage(`http://${there}`));
    const known = usage.look(14_999);
    expect([usage.look(14_999) === known, count]).toEqual([true, 1]);
    answer = "gone";
    usage.look(15_000);
    await expect.poll(() => usage.trouble, { timeout: 10_000, interval: 10 }).not.toBeNull();
    expect([usage.of(pod("c")), usage.ofNode("n1"), count]).toEqual([{}, null, 2]);
  });
});

describe("in a cluster with a Prometheus", () => {
  beforeEach(begin);
  afterEach(end);

  test("a workload is measured by its GPUs, and so is a node", async () => {
    await running();
    const names = server.all("pods").map(({ metadata }) => metadata.name);
    const metrics = names.map((name, index) =>
      series({ pod: name, namespace: "ns", Hostname: "n1" }, String(index === 0 ? 90 : 70)),
    );
    const endpoint = await serving(() => vector(...metrics));
    const folder = mkdtempSync(join(tmpdir(), "gpu-usage-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const config = join(folder, "c.yaml");
    writeFileSync(config, `integrations: {prometheus: {endpoint: "http://${endpoint}/"}}\n`);
    const { cluster, loop } = controller(started.url, { config }, {}, false);
    const load = () => {
      const [workload] = cluster.objects.workloads();
      return workload === undefined ? [] : (loop.seen?.loadOf(workload) ?? []);
    };
    await until(() => load().length === 2, "figures of both");
    expect(
      load()
        .map(({ metrics }) => metrics.gpu_utilization)
        .sort(),
    ).toEqual([70, 90]);
    expect(loop.seen?.gpuUtilizationOf?.("n1")).toBe(80);
  }, 60_000);
});
