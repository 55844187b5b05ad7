/** CPU and memory of pods, by metrics.k8s.io of an apiserver in memory. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { begin, condition, end, running, server, started, until, WORKLOAD } from "./fake-cluster.ts";

beforeEach(begin);
afterEach(end);

const METRICS = "/apis/metrics.k8s.io/v1beta1/pods";
const status = () => server.get(WORKLOAD).status;
const load = () => {
  const [workload] = started.cluster.objects.workloads();
  return workload === undefined ? [] : (started.loop.seen?.loadOf(workload) ?? []);
};

function measured(cpu: string, memory: string): void {
  for (const { metadata } of server.all("pods")) {
    server.set(`/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods/${metadata.name}`, {
      // With the labels of its pod, as the metrics server has it: it is asked for by them.
      metadata: { name: metadata.name, namespace: "ns", labels: metadata.labels },
      containers: [{ name: "llm-server", usage: { cpu, memory } }],
    });
  }
}

test("they are of what a pod has requested, as an HPA counts", async () => {
  await running();
  measured("1500000000n", "4194304Ki");
  // Basic is guaranteed half of the two cores that it asks for.
  await until(() => load().length === 2, "figures of both");
  for (const { metrics } of load()) {
    expect(metrics).toEqual({ cpu: 150, memory: 50, cpu_cores: 1.5, memory_bytes: 4 * 2 ** 30 });
  }
}, 60_000);

test("without metrics.k8s.io nothing is said, and everything else goes on", async () => {
  server.unreadable.set(METRICS, "the server could not find the requested resource");
  await running();
  expect(status()).not.toHaveProperty("resourceUsage");
  expect(condition("Ready").status).toBe("True");
});
