/** What of the second seed's environment is of pods and of the way to a cluster, with its defaults but for what is not safe. */
import { readFileSync } from "node:fs";
import type { Problem } from "../../config/problems.ts";
import { parseMemoryBytes } from "../../work/quantities.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const SERVICE_TYPES = ["ClusterIP", "NodePort", "LoadBalancer"] as const;
export type ServiceType = (typeof SERVICE_TYPES)[number];

/** Where pods find models, and keep what they fetch: shared by all replicas. */
export type Storage = { readonly mountPath: string } & (
  | { readonly kind: "nfs"; readonly server: string; readonly path: string }
  /** One that is there. */
  | { readonly kind: "pvc"; readonly claim: string }
  /** One for each workload, made for it. */
  | { readonly kind: "csi"; readonly storageClass: string; readonly size: string }
);

export interface PodSettings {
  /** Pods have it where the cluster does; `null`: they are to have none. */
  readonly runtimeClass: string | null;
  readonly serviceType: ServiceType;
  /** By which a NodePort is reached from outside; `null`: nobody says. */
  readonly externalHost: string | null;
  /** `null`: what a pod fetches goes with it. */
  readonly storage: Storage | null;
}

/** A server without a kubeconfig. */
export interface GivenAccess {
  readonly server: string;
  readonly token: string;
  /** PEM. */
  readonly ca: string | null;
}

const MODES = ["none", "nfs", "pvc", "csi"] as const;

export function podSettingsOf(env: Environment, problems: Problem[]): PodSettings {
  const { VLLM_RUNTIME_CLASS: runtimeClass = "nvidia" } = env;
  const serviceType = oneOf("SERVICE_TYPE", env.SERVICE_TYPE, SERVICE_TYPES, problems);
  return {
    runtimeClass: runtimeClass || null,
    serviceType,
    externalHost: env.EXTERNAL_HOSTNAME || env.K8S_EXTERNAL_HOST || null,
    storage: storageOf(env, problems),
  };
}

function storageOf(env: Environment, problems: Problem[]): Storage | null {
  const kind = oneOf("STORAGE_MODE", env.STORAGE_MODE?.toLowerCase(), MODES, problems);
  if (kind === "none") return null;
  const given = (name: string, byDefault: string) => env[name] || byDefault;
  const mountPath = given("MODEL_MOUNT_PATH", "/models").replace(/\/+$/, "");
  // A volume over these hides what the pod has there.
  const isTaken = ["", "/tmp", "/cache", "/dev/shm", "/etc/config"].includes(mountPath);
  if (!mountPath.startsWith("/") || isTaken) wrong("MODEL_MOUNT_PATH", "expected a path of its own", problems);
  if (kind === "nfs") {
    return { kind, mountPath, server: given("NFS_SERVER", "nfs-server.local"), path: given("NFS_PATH", "/models") };
  }
  if (kind === "pvc") {
    const claim = given("PVC_NAME", "");
    if (claim === "") wrong("PVC_NAME", "is needed for STORAGE_MODE=pvc", problems);
    return { kind, mountPath, claim };
  }
  const size = given("PVC_SIZE", "1Ti");
  if (parseMemoryBytes(size) === null) wrong("PVC_SIZE", "expected bytes such as 1Ti", problems);
  return { kind, mountPath, storageClass: given("STORAGE_CLASS", "ai-platform-models"), size };
}

/** @returns null where the environment names no server: a kubeconfig or the pod's own account leads to one. */
export function givenAccessIn(env: Environment, allowInsecure: boolean, problems: Problem[]): GivenAccess | null {
  const { K8S_API_SERVER: server = "", K8S_TOKEN: token = "", K8S_CA_CERT: given = "" } = env;
  if (token === "" || server === "") {
    if (token !== "") wrong("K8S_API_SERVER", "is needed for K8S_TOKEN", problems);
    return null;
  }
  if (!/^https?:\/\/[^\s]+$/.test(server)) wrong("K8S_API_SERVER", "expected https://HOST:PORT", problems);
  const ca = given === "" ? null : authorityIn(given, problems);
  // A token that is shown to whoever answers is anybody's.
  if (!allowInsecure && (given === "" || !server.startsWith("https:"))) {
    wrong("K8S_TOKEN", "needs https and K8S_CA_CERT, the server's authority; --allow-insecure goes without", problems);
  }
  return { server: server.replace(/\/+$/, ""), token: token.trim(), ca };
}

/** @returns null where nobody is asked which tenants there are. */
export function tenantServiceIn({ TENANT_SERVICE_URL: url = "" }: Environment, problems: Problem[]): string | null {
  if (url === "") return null;
  if (!/^https?:\/\/[^\s?#]+$/.test(url)) wrong("TENANT_SERVICE_URL", "expected http:// or https://", problems);
  return url.replace(/\/+$/, "");
}

/** PEM as it is, in base64, or the path of a file with it. */
function authorityIn(given: string, problems: Problem[]): string | null {
  const isPem = (text: string) => text.includes("-----BEGIN CERTIFICATE-----");
  if (isPem(given)) return given;
  const decoded = Buffer.from(given, "base64").toString("utf8");
  if (isPem(decoded)) return decoded;
  try {
    return readFileSync(given, "utf8");
  } catch (error) {
    wrong("K8S_CA_CERT", (error as Error).message, problems);
    return null;
  }
}

/** The first of `known` where nothing is given. */
function oneOf<const T extends string>(
  name: string,
  given: string | undefined,
  known: readonly [T, ...T[]],
  problems: Problem[],
): T {
  if (given === undefined || given === "") return known[0];
  const found = known.find((one) => one === given);
  if (found === undefined) wrong(name, `expected one of ${known.join(", ")}`, problems);
  return found ?? known[0];
}

function wrong(name: string, message: string, problems: Problem[]): void {
  problems.push({ origin: { kind: "environment", name }, path: "", message, hint: null });
}
