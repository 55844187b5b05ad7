/**
 * Nodes and the life of pods on them, for an apiserver without any: a node has GPUs to give, and a pod that is bound to
 * it serves what vLLM serves, at an address of its own on loopback.
 */
import { createServer, type Server } from "node:http";
import { type KubeConnection, KubeError } from "../../src/controller/kubernetes/connection.ts";
import { type KubeObject, Watch } from "../../src/controller/kubernetes/watch.ts";

const HEARTBEAT_MS = 2_000;
const AT_ONCE = 16;
const VLLM_PORT = 8_000;

export interface NodeShape {
  readonly name: string;
  readonly gpus: number;
  readonly product?: string;
}

/** What becomes of a pod: it serves, runs without being ready, or waits with a reason and words. */
export type Fate = (pod: KubeObject) => Misfortune | "loads" | null;

interface Misfortune {
  readonly reason: string;
  readonly message: string;
  /** How its container ended the last time: `OOMKilled`. */
  readonly last?: string;
  readonly restarts?: number;
}

export class Kubelet {
  readonly #connection: KubeConnection;
  readonly #pods: Watch;
  readonly #alive = new Set<string>();
  readonly #serving = new Map<string, { readonly ip: string; readonly server: Server }>();
  /** By uid: what was said of it last. */
  readonly #told = new Map<string, string>();
  readonly #heartbeat: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();
  #again = false;
  #isRunning = false;
  #count = 0;
  fate: Fate = () => null;
  /** What the pods' `/metrics` say waits there. */
  waiting = 0;
  readonly troubles: string[] = [];

  /** @param heartbeatMs is less than what a node may be silent for (control-plane.ts). */
  constructor(connection: KubeConnection, heartbeatMs = HEARTBEAT_MS) {
    this.#connection = connection;
    this.#pods = new Watch(connection, "/api/v1/pods", { changed: () => this.soon() });
    this.#pods.start();
    this.#heartbeat = setInterval(() => void this.#beat(), heartbeatMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.#heartbeat);
    await this.#pods.stop();
    await this.#running;
    for (const { server } of this.#serving.values()) {
      server.closeAllConnections();
      server.close();
    }
  }

  get pods(): readonly KubeObject[] {
    return this.#pods.all();
  }

  async addNode(shape: NodeShape): Promise<void> {
    await this.addNodes([shape]);
  }

  async addNodes(shapes: readonly NodeShape[]): Promise<void> {
    await sideBySide(shapes, (shape) => this.#register(shape));
    await this.#beat();
  }

  async #register({ name, gpus, product = "NVIDIA-H100-80GB-HBM3" }: NodeShape): Promise<void> {
    const labels = {
      "kubernetes.io/hostname": name,
      "kubernetes.io/arch": "amd64",
      "nvidia.com/gpu.product": product,
      "nvidia.com/gpu.memory": "81559",
    };
    await this.#connection.call("/api/v1/nodes", {
      method: "POST",
      body: { apiVersion: "v1", kind: "Node", metadata: { name, labels } },
    });
    this.#alive.add(name);
    const capacity = { cpu: "64", memory: "512Gi", pods: "110", "nvidia.com/gpu": String(gpus) };
    await this.#patch(`/api/v1/nodes/${name}/status`, { status: { capacity, allocatable: capacity } });
  }

  /** Its power is back: it says so, and what was to end there ends. */
  revive(name: string): void {
    this.#alive.add(name);
  }

  /** Its power is cut: it says nothing more, and what ran there does not answer. */
  kill(name: string): void {
    this.#alive.delete(name);
  }

  async #beat(): Promise<void> {
    const at = new Date().toISOString().replace(/\.\d+Z/, "Z");
    const condition = { type: "Ready", status: "True", reason: "KubeletReady", message: "", lastHeartbeatTime: at };
    await sideBySide([...this.#alive], async (name) => {
      await this.#patch(`/api/v1/nodes/${name}/status`, {
        status: { conditions: [{ ...condition, lastTransitionTime: at }] },
      }).catch((error: Error) => this.troubles.push(error.message));
    });
    this.soon();
  }

  /** Looks at all pods now, or after the look that is under way. */
  soon(): void {
    if (this.#isRunning) {
      this.#again = true;
      return;
    }
    this.#isRunning = true;
    this.#running = this.#look().finally(() => {
      this.#isRunning = false;
      if (!this.#again) return;
      this.#again = false;
      this.soon();
    });
  }

  async #look(): Promise<void> {
    await sideBySide(this.#pods.all(), async (pod) => {
      const node = pod.spec?.nodeName as string | undefined;
      if (node === undefined || !this.#alive.has(node)) return;
      try {
        if (pod.metadata.deletionTimestamp !== undefined) await this.#end(pod);
        else await this.#run(pod);
      } catch (error) {
        if (!(error instanceof KubeError && (error.status === 404 || error.status === 409))) {
          this.troubles.push((error as Error).message);
        }
      }
    });
  }

  async #run(pod: KubeObject): Promise<void> {
    const { uid, namespace, name } = pod.metadata;
    const trouble = this.fate(pod);
    const told = trouble === null ? "serves" : trouble === "loads" ? trouble : trouble.reason;
    // A node that was silent for too long has its pods marked as not ready: it says again what they are.
    if (this.#told.get(uid) === told && (told !== "serves" || isReady(pod))) return;
    const path = `/api/v1/namespaces/${namespace}/pods/${name}/status`;
    const status = trouble === null || trouble === "loads" ? await this.#serve(pod, trouble) : waitingFor(trouble);
    await this.#patch(path, { status });
    this.#told.set(uid, told);
  }

  async #serve({ metadata: { uid } }: KubeObject, loads: "loads" | null) {
    const isReady = loads === null;
    const there = this.#serving.get(uid);
    const { ip } = there ?? (await this.#listen(uid));
    const at = new Date().toISOString().replace(/\.\d+Z/, "Z");
    return {
      phase: "Running",
      podIP: ip,
      podIPs: [{ ip }],
      startTime: at,
      conditions: ["Ready", "ContainersReady"].map((type) => ({
        type,
        status: isReady ? "True" : "False",
        lastTransitionTime: at,
      })),
      containerStatuses: [
        {
          name: "llm-server",
          image: "vllm",
          imageID: "sha256:0",
          ready: isReady,
          started: isReady,
          restartCount: 0,
          state: { running: { startedAt: at } },
        },
      ],
    };
  }

  async #listen(uid: string): Promise<{ readonly ip: string; readonly server: Server }> {
    const server = createServer((req, res) => {
      if (req.url === "/health") return res.end();
      if (req.url === "/v1/models") return res.end(JSON.stringify({ object: "list", data: [] }));
      if (req.url === "/metrics") return res.end(`vllm:num_requests_waiting{engine="0"} ${this.waiting}\n`);
      res.statusCode = 404;
      return res.end();
    });
    for (;;) {
      const number = this.#count++;
      const ip = `127.${100 + (process.pid % 100)}.${(number >> 8) & 255}.${1 + (number % 250)}`;
      const isOurs = await new Promise<boolean>((resolve) => {
        server.once("error", () => resolve(false));
        server.listen(VLLM_PORT, ip, () => resolve(true));
      });
      if (!isOurs) continue;
      this.#serving.set(uid, { ip, server });
      return { ip, server };
    }
  }

  async #end({ metadata: { uid, namespace, name } }: KubeObject): Promise<void> {
    const serving = this.#serving.get(uid);
    serving?.server.closeAllConnections();
    serving?.server.close();
    this.#serving.delete(uid);
    await this.#connection.call(`/api/v1/namespaces/${namespace}/pods/${name}`, {
      method: "DELETE",
      query: { gracePeriodSeconds: "0" },
    });
  }

  #patch(path: string, body: object): Promise<unknown> {
    return this.#connection.call(path, {
      method: "PATCH",
      contentType: "application/strategic-merge-patch+json",
      body,
    });
  }
}

function isReady({ status }: KubeObject): boolean {
  const { conditions = [] } = (status ?? {}) as { readonly conditions?: readonly { type: string; status: string }[] };
  return conditions.some(({ type, status: holds }) => type === "Ready" && holds === "True");
}

async function sideBySide<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const some = async () => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) await act(next);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, some));
}

function waitingFor({ reason, message, last, restarts = 0 }: Misfortune) {
  const container = { name: "llm-server", image: "vllm", imageID: "", ready: false, restartCount: restarts };
  const ended = { terminated: { reason: last, exitCode: 137 } };
  const lastState = last === undefined ? {} : { lastState: ended };
  return {
    phase: "Pending",
    containerStatuses: [{ ...container, state: { waiting: { reason, message } }, ...lastState }],
  };
}
