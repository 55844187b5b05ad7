import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { ConfigError } from "../../src/config/problems.ts";
import { isPlan, planOf } from "../../src/controller/reconcile/plan.ts";
import { loadSettings } from "../../src/controller/settings/settings.ts";

import { node, spec } from "./objects.ts";

const SEED = "../shared/fixtures/cluster/s1";
const folder = mkdtempSync(join(tmpdir(), "controller-settings-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, "config.yaml");
  writeFileSync(path, text);
  return path;
}

function problems(text: string, env: Record<string, string> = {}): string[] {
  try {
    loadSettings({ config: file(text), backend: "host" }, env);
    return [];
  } catch (error) {
    return (error as ConfigError).problems.map(({ path, message }) => `${path}: ${message}`);
  }
}

describe("the controller's settings", () => {
  test.each([
    ["{prometheus: {endpoint: prometheus:9090, team: ops}, pagers: {}}", "http://prometheus:9090"],
    ["{prometheus: {endpoint: 'https://metrics.example/base/'}}", "https://metrics.example/base"],
    ["{prometheus: {endpoint: ''}}", null],
    ["{prometheus: {enabled: false, endpoint: 'http://prometheus:9090'}}", null],
    ["{}", null],
  ])("integrations of %s ask a Prometheus at %s", (integrations, expected) => {
    const config = file(`integrations: ${integrations}\n`);
    expect(loadSettings({ config, backend: "host" }, {}).kubernetes.prometheus).toBe(expected);
  });

  test.skipIf(!existsSync(SEED))(
    "are the first seed's files as they stand, with what has no effect named (needs ../shared)",
    () => {
      const own = loadSettings({ config: `${SEED}/llm-orchestrator.yaml`, backend: "host" }, {});
      expect(own.inert).toEqual(
        expect.arrayContaining(["advanced", "disasterRecovery", "features", "integrations.grafana"]),
      );
      expect(own.inert).toEqual(
        expect.arrayContaining([
          "scheduler.qosClasses.*.burstingAllowed",
          "resourceManager.qosResourceAllocation.*.memoryMultiplier",
          "resourceProfiles.*.cpu",
          "integrations.prometheus.scrapeInterval",
        ]),
      );
      expect(own.inert).not.toContain("scheduler.scaleUpCooldown");
      expect(own.kubernetes.prometheus).toBe("http://prometheus:9090");
      expect(own).toMatchObject({
        namespace: "llm-workloads",
        reconcile: { scaleUpCooldownMs: 180_000, maxGpus: 4, qos: { premium: { priority: 100 } } },
      });
      const manifest = parseAllDocuments(readFileSync(`${SEED}/deployment.yaml`, "utf8"));
      const [map] = manifest.map((one) => one.toJS()).filter(({ kind }) => kind === "ConfigMap");
      expect(problems(map.data["config.yaml"])).toEqual([]);
    },
  );

  test("of the second seed's environment go over the file's", () => {
    const env = {
      PORT: "9000",
      K8S_NAMESPACE: "ai-platform",
      GPU_MEMORY_GB: "48",
      VLLM_IMAGE: "vllm/vllm-openai:v0.9",
    };
    const settings = loadSettings({ config: file("api: {port: 7000}"), backend: "host" }, env);
    expect(settings).toMatchObject({
      api: { port: 9_000 },
      namespace: "ai-platform",
      reconcile: { gpuMemoryMib: 48 * 1_024, image: "vllm/vllm-openai:v0.9" },
    });
  });

  test("name DRA as without effect, and what pods do anyway not", () => {
    const inert = (mode: string) => loadSettings({ config: file(`gpu: {mode: ${mode}}`), backend: "host" }, {}).inert;
    expect([inert("dra"), inert("device-plugin")]).toEqual([["gpu.mode"], []]);
  });

  test("take GPU_TYPE for the memory of GPUs, where nothing says that, and look as often as they are told", () => {
    const of = (env: object) => loadSettings({ backend: "host" }, { ...env }).reconcile;
    expect(of({ GPU_TYPE: "nvidia-l40s" }).gpuMemoryMib).toBe(46_068);
    expect(of({ GPU_TYPE: "nvidia-l40s", GPU_MEMORY_GB: "48" }).gpuMemoryMib).toBe(48 * 1_024);
    expect(of({ GPU_TYPE: "something" }).gpuMemoryMib).toBeNull();
    expect([of({}).anewMs, of({ HEALTH_CHECK_INTERVAL: "60" }).anewMs]).toEqual([30_000, 60_000]);
    expect(() => of({ HEALTH_CHECK_INTERVAL: "0" })).toThrow(ConfigError);
  });

  test("say what a deployment has that asks for nothing, the operator's first, and where CPU scales", () => {
    const text = "resourceManager: {defaultCPURequest: 1000m, defaultMemoryRequest: 2Gi, scaleUpThreshold: 0.6}";
    const of = (more = "") => loadSettings({ config: file(`${text}${more}`), backend: "host" }, {});
    expect(of()).toMatchObject({
      defaults: { cpu: "1000m", memory: String(2 * 2 ** 30) },
      reconcile: { cpuBand: { above: 60, below: 30 } },
    });
    const { defaults } = of("\noperator: {defaultCPURequest: 500m, defaultCPULimit: 2000m, defaultMemoryRequest: 1Gi}");
    expect(defaults).toEqual({ cpu: "2000m", memory: String(2 ** 30) });
  });

  test("take a class's greatest latency as the bound of who is of it", () => {
    const { reconcile } = loadSettings({ config: file("scheduler: {qosClasses: {standard: {maxLatency: 200}}}") }, {});
    const promised = (responseTimeP95: number) => {
      const slaRequirements = { availability: 99.9, responseTimeP95 };
      const planned = planOf(spec({ performance: { slaRequirements } }), [], [node()], reconcile);
      return isPlan(planned) ? planned.qosClass : null;
    };
    expect([100, 101, 200, 201].map(promised)).toEqual(["premium", "standard", "standard", "basic"]);
  });

  test("have what names no namespace made where --namespace looks, and nothing said against that", () => {
    const flags = { namespace: "team-a" };
    const path = file("operator: {defaultNamespace: elsewhere}");
    expect(loadSettings({ ...flags, config: path }, { K8S_NAMESPACE: "team-a" })).toMatchObject({
      namespace: "team-a",
      kubernetes: { watched: "team-a" },
    });
    expect(loadSettings({ ...flags, config: path }, {}).namespace).toBe("team-a");
    expect(() => loadSettings(flags, { K8S_NAMESPACE: "team-b" })).toThrow(/--namespace.*K8S_NAMESPACE, "team-b"/);
  });

  test("place the Lease by the file, and know by the pod where it runs", () => {
    const flags = { config: file("namespace: leases") };
    expect(loadSettings(flags, { POD_NAMESPACE: "here" }).kubernetes).toMatchObject({
      namespace: "here",
      lease: { namespace: "leases" },
    });
    expect(loadSettings({}, { POD_NAMESPACE: "here" }).kubernetes).toMatchObject({
      namespace: "here",
      lease: { namespace: "here" },
    });
    expect(loadSettings(flags, {}).kubernetes.namespace).toBe("leases");
  });

  test("name every mistake at once", () => {
    expect(problems("sheduler: {}\nscheduler: {scaleUpCooldown: soon}\n", { PORT: "x" })).toEqual([
      'scheduler.scaleUpCooldown: expected a duration such as 30s or 3m, got "soon"',
      "sheduler: there is no such setting",
      ": expected a whole number from 0 to 65535",
    ]);
  });

  test("know every key of the model registry, and name as without effect what else stands among the integrations", () => {
    expect(problems("modelRegistry: {storagePth: /models}")).toEqual([
      "modelRegistry.storagePth: there is no such setting",
    ]);
    const config = file("modelRegistry: {storagePath: /models, maxVersions: 3}\nintegrations: {pagers: {}}\n");
    expect(loadSettings({ config, backend: "host" }, {}).inert).toEqual([
      "modelRegistry.storagePath",
      "integrations.pagers",
    ]);
  });

  test("take a variable without a value for none, but for the runtime class, which pods are then to have none of", () => {
    const names = ["K8S_NAMESPACE", "K8S_CONTEXT", "VLLM_IMAGE", "POD_NAMESPACE", "PORT", "DEFAULT_CPU_REQUEST"];
    const empty = Object.fromEntries(names.map((name) => [name, ""]));
    expect(loadSettings({ namespace: "team-a" }, empty)).toEqual(loadSettings({ namespace: "team-a" }, {}));
    expect(loadSettings({}, { VLLM_RUNTIME_CLASS: "" }).kubernetes.pods.runtimeClass).toBeNull();
  });

  test("refuse at the start what each deployment would be refused for", () => {
    expect(problems("", { DEFAULT_CPU_LIMIT: "lots", DEFAULT_MEMORY_REQUEST: "much" })).toEqual([
      ": expected cores",
      ": expected bytes such as 32Gi",
    ]);
    const { defaults } = loadSettings({}, { DEFAULT_CPU_LIMIT: "7800m", DEFAULT_MEMORY_REQUEST: "31Gi" });
    expect(defaults).toEqual({ cpu: "7800m", memory: "31Gi" });
  });

  test("take --leader-elect as Go programs do: alone, true or false", () => {
    const elects = (leaderElect: boolean | string) => loadSettings({ leaderElect }, {}).kubernetes.lease !== null;
    expect([elects(true), elects("true"), elects("false"), elects(false)]).toEqual([true, true, false, false]);
    expect(() => elects("maybe")).toThrow(/--leader-elect.*true or false/);
  });

  test("without keys keep to loopback, and with keys listen where they are told", () => {
    expect(problems("api: {host: 0.0.0.0}")).toEqual(["api.host: without auth.api_keys only loopback is listened on"]);
    expect(problems("api: {host: 0.0.0.0}\nauth: {api_keys: {a-key-0123456789: {principal: a}}}")).toEqual([]);
  });

  test("take no placeholder of the documentation as a key, and no digest that is none", () => {
    const refused = (key: string) => problems(`auth: {api_keys: {"${key}": {principal: a}}}`);
    expect(refused("change-me")).toEqual([expect.stringContaining("auth.api_keys: a placeholder")]);
    expect(refused("sha256:abc")).toEqual(["auth.api_keys: expected 64 hex digits after `sha256:`"]);
    expect(refused(`sha256:${"a".repeat(64)}`)).toEqual([]);
  });

  test("take addresses as the first seed's flags have them, and say what is none", () => {
    const flags = { backend: "host", metricsBindAddress: ":8080", healthProbeBindAddress: "[::1]:8081" };
    expect(loadSettings(flags, {}).open).toEqual([
      { host: null, port: 8_080 },
      { host: "::1", port: 8_081 },
    ]);
    expect(loadSettings({ ...flags, metricsBindAddress: "0" }, {}).open).toHaveLength(1);
    expect(loadSettings({ ...flags, zapLogLevel: "error" }, {}).logLevel).toBe("error");
    for (const wrong of [{ metricsBindAddress: "8080" }, { metricsBindAddress: ":99999" }, { zapLogLevel: "loud" }]) {
      expect(() => loadSettings({ ...flags, ...wrong }, {})).toThrow();
    }
  });

  test("let no second key of a principal widen its tenants", () => {
    const keys = "k1-0123456789: {principal: a, tenants: [x]}, k2-0123456789: {principal: a}";
    expect(problems(`auth: {api_keys: {${keys}}}`)).toEqual(["auth.api_keys: the keys of a name different tenants"]);
  });
});

test("the first seed's TLS keys make the API speak HTTPS, and a file that is no certificate is refused", () => {
  const at = mkdtempSync(join(tmpdir(), "tls-"));
  onTestFinished(() => rmSync(at, { recursive: true, force: true }));
  const config = join(at, "config.yaml");
  const load = (text: string) => {
    writeFileSync(config, text);
    return loadSettings({ backend: "host", config }, {});
  };
  expect(load("tlsEnabled: false\ncertFile: ''\nkeyFile: ''\n")).toMatchObject({ certificate: null, inert: [] });
  expect(() => load("tlsEnabled: true\n")).toThrow(/certFile/);
  writeFileSync(join(at, "x.pem"), "no certificate");
  expect(() => load(`tlsEnabled: true\ncertFile: ${at}/x.pem\nkeyFile: ${at}/x.pem\n`)).toThrow(/no certificate/);
});
