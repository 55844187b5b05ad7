/** The second seed's environment: of pods, and of the way to a cluster. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { ConfigError } from "../../../src/config/problems.ts";
import { loadSettings } from "../../../src/controller/settings/settings.ts";

const load = (env: Record<string, string>, flags: object = {}) => loadSettings({ ...flags }, env);
const refused = (env: Record<string, string>, flags: object = {}) => {
  try {
    load(env, flags);
    return [];
  } catch (error) {
    return (error as ConfigError).problems.map(({ origin }) => ("name" in origin ? origin.name : origin.kind));
  }
};
const PEM = "-----BEGIN CERTIFICATE-----\nxyz\n-----END CERTIFICATE-----\n";
const WAY = { K8S_API_SERVER: "https://api.example:6443/", K8S_TOKEN: "secret-token\n" };

test("without it the second seed's defaults hold, but for those that are not safe", () => {
  const { kubernetes, defaults, reconcile } = load({});
  expect(kubernetes.pods).toEqual({
    ...{ runtimeClass: "nvidia", serviceType: "ClusterIP", externalHost: null, storage: null },
  });
  expect(kubernetes.given).toBeNull();
  expect(defaults).toEqual({ cpu: "8", memory: "32Gi" });
  expect(reconcile).toMatchObject({ leastStartMs: 600_000, progressDeadlineMs: 600_000, vllmPort: 8_000 });
});

test("it says how pods are reached, started and given models", () => {
  const { kubernetes, defaults, reconcile, logLevel } = load({
    ...{ VLLM_RUNTIME_CLASS: "gpu", VLLM_DEFAULT_PORT: "9000", VLLM_DEFAULT_GPU_MEMORY: "40" },
    ...{ SERVICE_TYPE: "NodePort", EXTERNAL_HOSTNAME: "gpu.example", LOG_LEVEL: "WARNING" },
    ...{ STORAGE_MODE: "NFS", NFS_SERVER: "10.0.0.9", MODEL_MOUNT_PATH: "/mnt/models/" },
    ...{ DEFAULT_CPU_REQUEST: "2", DEFAULT_CPU_LIMIT: "6", DEFAULT_MEMORY_REQUEST: "20Gi" },
    ...{ POD_STARTUP_TIMEOUT: "1800", DEPLOYMENT_TIMEOUT: "900" },
  });
  expect(kubernetes.pods).toEqual({
    ...{ runtimeClass: "gpu", serviceType: "NodePort", externalHost: "gpu.example" },
    storage: { kind: "nfs", mountPath: "/mnt/models", server: "10.0.0.9", path: "/models" },
  });
  expect(defaults).toEqual({ cpu: "6", memory: "20Gi" });
  expect(reconcile).toMatchObject({ leastStartMs: 1_800_000, progressDeadlineMs: 1_800_000, vllmPort: 9_000 });
  expect([reconcile.gpuMemoryMib, logLevel]).toEqual([40 * 1_024, "warn"]);
});

test("of claims one that is there is named, and one that is to be made has a class and a size", () => {
  const storage = (env: Record<string, string>) => load(env).kubernetes.pods.storage;
  expect(storage({ STORAGE_MODE: "pvc", PVC_NAME: "models" })).toMatchObject({ kind: "pvc", claim: "models" });
  expect(storage({ STORAGE_MODE: "csi" })).toEqual({
    ...{ kind: "csi", mountPath: "/models", storageClass: "ai-platform-models", size: "1Ti" },
  });
  expect(refused({ STORAGE_MODE: "pvc" })).toEqual(["PVC_NAME"]);
  expect(refused({ STORAGE_MODE: "csi", PVC_SIZE: "much" })).toEqual(["PVC_SIZE"]);
  expect(refused({ STORAGE_MODE: "nfs", MODEL_MOUNT_PATH: "/cache" })).toEqual(["MODEL_MOUNT_PATH"]);
  expect(refused({ STORAGE_MODE: "ftp", SERVICE_TYPE: "Tunnel" })).toEqual(["SERVICE_TYPE", "STORAGE_MODE"]);
});

test("a token goes to no server whose authority is not named", () => {
  expect(refused(WAY)).toEqual(["K8S_TOKEN"]);
  expect(refused({ ...WAY, K8S_API_SERVER: "http://api.example", K8S_CA_CERT: PEM })).toEqual(["K8S_TOKEN"]);
  expect(refused({ K8S_TOKEN: "t" })).toEqual(["K8S_API_SERVER"]);
  expect(load(WAY, { allowInsecure: true }).kubernetes.given).toMatchObject({ token: "secret-token", ca: null });
  // A kubeconfig that is named goes over it.
  expect(load(WAY, { kubeconfig: "/x" }).kubernetes.given).toBeNull();
});

test("an authority is taken as it stands, in base64, and from a file", () => {
  const folder = mkdtempSync(join(tmpdir(), "seed-environment-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "ca.crt");
  writeFileSync(file, PEM);
  for (const K8S_CA_CERT of [PEM, Buffer.from(PEM).toString("base64"), file]) {
    const { given } = load({ ...WAY, K8S_CA_CERT }).kubernetes;
    expect(given).toEqual({ server: "https://api.example:6443", token: "secret-token", ca: PEM });
  }
  expect(refused({ ...WAY, K8S_CA_CERT: join(folder, "none") })).toEqual(["K8S_CA_CERT"]);
});
