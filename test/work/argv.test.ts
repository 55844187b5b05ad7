import { describe, expect, test } from "vitest";
import { commandOf, environmentOf, NOWHERE, type Place, refusalOf } from "../../src/work/argv.ts";
import { readTask } from "../../src/work/documents/task.ts";
import { readWorkload } from "../../src/work/documents/workload.ts";
import { WorkError } from "../../src/work/errors.ts";
import type { ExecutorSettings } from "../../src/work/executor-settings.ts";
import type { WorkSpec } from "../../src/work/model.ts";
import { document, TASK_SETTINGS, WORKLOAD_SETTINGS } from "./fixtures.ts";

const CLOSED: ExecutorSettings = {
  type: "process",
  command: null,
  python: null,
  module: null,
  class: null,
  engine: "podman",
  programs: [],
  images: [],
  args: [],
  env: {},
  passEnv: [],
  userEnv: [],
  mounts: [],
  network: "none",
  cdi: true,
  allowRemoteCode: false,
};
const PLACE: Place = { ...NOWHERE, run: "run-1", port: 20_001, gpuUuids: ["GPU-a", "GPU-b"], vllmVersion: [0, 20] };

const spec = (more: object = {}) =>
  readTask(
    document({ resources: { hardware: { cpu: "2", memory: "4Gi", gpu: { count: 2 } } }, ...more }) as never,
    TASK_SETTINGS,
  ).spec;

function code(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof WorkError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

describe("the command of", () => {
  test("vllm is its server with exactly the flags that it knows", () => {
    const model = {
      source: { identifier: "org/model", revision: "main" },
      vllm: { max_model_len: 4_096, dtype: "float16" },
    };
    const settings = { ...CLOSED, type: "vllm" as const, args: ["--enforce-eager"] };
    expect(commandOf("service", spec({ model }), settings, PLACE).argv).toEqual([
      ...["vllm", "serve", "org/model", "--host", "127.0.0.1", "--port", "20001", "--served-model-name", "org/model"],
      ...["--tensor-parallel-size", "2", "--gpu-memory-utilization", "0.9", "--revision", "main"],
      ...["--max-model-len", "4096", "--dtype", "float16", "--shutdown-timeout", "25", "--enforce-eager"],
    ]);
    const old = commandOf("service", spec({ model }), settings, { ...PLACE, vllmVersion: [0, 18] }).argv;
    expect(old).not.toContain("--shutdown-timeout");
  });

  test("vllm serves a workload's model under the name that the workload gives it, and a task's under what it loads", () => {
    const settings = { ...CLOSED, type: "vllm" as const };
    const named = (kind: "service" | "task", wish: WorkSpec) => {
      const { argv } = commandOf(kind, wish, settings, PLACE);
      return [argv[argv.indexOf("serve") + 1], argv[argv.indexOf("--served-model-name") + 1]];
    };
    const flat = (body: object) => readWorkload({ name: "chat", ...body } as never, WORKLOAD_SETTINGS).spec as WorkSpec;
    expect(named("service", flat({ modelName: "llama2" }))).toEqual(["meta/llama2", "llama2"]);
    const model = { source: { identifier: "org/model" } };
    expect(named("service", flat({ executor: "vllm", model }))).toEqual(["org/model", "org/model"]);
    expect(named("task", spec({ model, inference: { prompts: ["a"] } }))).toEqual(["org/model", "org/model"]);
  });

  test("vllm takes remote code only where the host allows it, and says when it does not", () => {
    const wish = spec({ model: { source: { identifier: "m", trust_remote_code: true } } });
    const closed = commandOf("service", wish, { ...CLOSED, type: "vllm" }, PLACE);
    expect(closed.argv).not.toContain("--trust-remote-code");
    expect(closed.warnings).toHaveLength(1);
    const open = commandOf("service", wish, { ...CLOSED, type: "vllm", allowRemoteCode: true }, PLACE);
    expect(open.argv).toContain("--trust-remote-code");
  });

  test("ppo takes remote code only where the host allows it, and says when it does not", () => {
    const wish = spec({ model: { source: { identifier: "m", trust_remote_code: true } } });
    const closed = commandOf("task", wish, { ...CLOSED, type: "ppo" }, PLACE);
    expect([closed.argv.includes("--trust-remote-code"), closed.warnings.length]).toEqual([false, 1]);
    const open = commandOf("task", wish, { ...CLOSED, type: "ppo", allowRemoteCode: true }, PLACE);
    expect([open.argv.includes("--trust-remote-code"), open.warnings]).toEqual([true, []]);
  });

  test("ppo is one process on one GPU and torch's launcher on several", () => {
    const settings = { ...CLOSED, type: "ppo" as const, python: "/venv/bin/python" };
    const many = commandOf("task", spec(), settings, PLACE).argv;
    expect(many.slice(0, 5)).toEqual([
      "/venv/bin/python",
      "-m",
      "torch.distributed.run",
      "--standalone",
      "--nproc-per-node=2",
    ]);
    const one = commandOf("task", spec({ resources: { hardware: { gpu: { count: 1 } } } }), settings, PLACE).argv;
    expect(one.slice(0, 3)).toEqual(["/venv/bin/python", "-u", "executors/python/ppo.py"]);
  });

  test("a container gets its GPUs by UUID, its limits, and nothing more than it needs", () => {
    const settings = { ...CLOSED, type: "container" as const, images: ["localhost/train:1"] };
    const wish = spec({ image: "localhost/train:1", command: ["train", "--fast"] });
    const place = { ...PLACE, user: { uid: 1_000, gid: 1_000 } };
    expect(commandOf("task", wish, settings, place).argv).toEqual([
      ...["podman", "run", "--name", "go-run-1", "--label", "gpu-orchestrator.run=run-1", "--rm", "--init"],
      ...["--pull", "never", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "1000:1000"],
      ...["--memory", String(4 * 2 ** 30), "--cpus", "2", "--pids-limit", "4096", "--network", "none"],
      ...["--env-file", "ENV_FILE", "--volume", "OUT_DIR:/results"],
      ...["--device", "nvidia.com/gpu=GPU-a", "--device", "nvidia.com/gpu=GPU-b"],
      ...["localhost/train:1", "train", "--fast"],
    ]);
    const docker = commandOf("task", wish, { ...settings, engine: "docker", cdi: false }, place).argv;
    expect(docker[docker.indexOf("--gpus") + 1]).toBe('"device=GPU-a,GPU-b"');
  });
});

describe("what the host has not opened", () => {
  test("is refused with the setting that would open it", () => {
    const open = { mine: { ...CLOSED, programs: ["/bin/true"], userEnv: ["SEED", "LD_PRELOAD"] } };
    const refused = (more: object) => refusalOf("task", spec({ executor: "mine", ...more }), open)?.message ?? null;
    expect(refused({})).toBeNull();
    expect(refused({ command: ["/bin/sh"] })).toContain("work.executors.mine.programs");
    expect(refused({ command: ["true"] })).toContain("work.executors.mine.programs");
    expect(refused({ executor: "yours" })).toContain("work.executors.yours");
    expect(refused({ env: { SEED: "1" } })).toBeNull();
    expect(refused({ env: { OTHER: "1" } })).toContain("user_env");
    expect(refused({ env: { LD_PRELOAD: "x.so" } })).toContain("user_env");
    expect(refusalOf("task", spec({ executor: "constructor" }), open)?.code).toBe("not-allowed");
    expect(code(() => commandOf("task", spec({ image: "x" }), { ...CLOSED, type: "container" }, PLACE))).toContain(
      "images",
    );
    expect(code(() => commandOf("task", spec(), { ...CLOSED, type: "program" }, PLACE))).toContain("command");
  });
});

describe("the environment", () => {
  const around = {
    home: "/home/u",
    own: { HF_TOKEN: "secret", OTHER: "x" },
    lease: { CUDA_VISIBLE_DEVICES: "GPU-a,GPU-b", GPU_ORCHESTRATOR_GPU_INDICES: "0,3" },
    gpuIndices: [0, 3],
    secrets: { TOKEN: "t" },
    fencingToken: 7,
    job: "task-1",
  };

  test("is the host's own, what it passes on, and the lease's, which nobody overrides", () => {
    const settings = {
      ...CLOSED,
      passEnv: ["HF_TOKEN"],
      env: { MODE: "a" },
      userEnv: ["CUDA_VISIBLE_DEVICES", "NAME"],
    };
    const env = environmentOf(
      "task",
      spec({ env: { CUDA_VISIBLE_DEVICES: "all", NAME: "n", PATH: "/tmp" } }),
      settings,
      PLACE,
      around,
    );
    expect(env).toMatchObject({ HF_TOKEN: "secret", MODE: "a", NAME: "n", TOKEN: "t", HOME: "/home/u" });
    expect(env.CUDA_VISIBLE_DEVICES).toBe("GPU-a,GPU-b");
    expect(env.PATH).not.toBe("/tmp");
    expect(env).not.toHaveProperty("OTHER");
    expect(env).toMatchObject({ GPU_ORCHESTRATOR_RUN: "run-1", GPU_ORCHESTRATOR_FENCING_TOKEN: "7" });
  });

  test("names GPUs by index for a vLLM that cannot read UUIDs, in the order of the bus", () => {
    const settings = { ...CLOSED, type: "vllm" as const };
    const old = environmentOf("service", spec(), settings, PLACE, around);
    expect(old).toMatchObject({ CUDA_VISIBLE_DEVICES: "0,3", CUDA_DEVICE_ORDER: "PCI_BUS_ID" });
    expect(old).toMatchObject({ PORT: String(PLACE.port), GPU_ORCHESTRATOR_HOST: PLACE.host });
    const now = environmentOf("service", spec(), settings, { ...PLACE, vllmVersion: [0, 24] }, around);
    expect(now.CUDA_VISIBLE_DEVICES).toBe("GPU-a,GPU-b");
  });

  test("shows no GPU to a run without a lease", () => {
    const env = environmentOf(
      "task",
      spec(),
      CLOSED,
      { ...PLACE, gpuUuids: [] },
      { ...around, lease: {}, gpuIndices: [], fencingToken: null },
    );
    expect(env).toMatchObject({ CUDA_VISIBLE_DEVICES: "", NVIDIA_VISIBLE_DEVICES: "void" });
  });
});
