/** The admin's way to make a command of a spec: what stands below `work.executors.NAME`. */
export interface ExecutorSettings {
  readonly type: "process" | "echo" | "simulated" | "program" | "python" | "vllm" | "container" | "ppo" | "mloc";
  readonly command: readonly string[] | null;
  readonly python: string | null;
  readonly module: string | null;
  readonly class: string | null;
  readonly engine: "podman" | "docker";
  readonly programs: readonly string[];
  readonly images: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly passEnv: readonly string[];
  readonly userEnv: readonly string[];
  readonly mounts: readonly string[];
  readonly network: string;
  readonly cdi: boolean;
  readonly allowRemoteCode: boolean;
}
