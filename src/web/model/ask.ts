/** The form for an allocate: what was typed, made into the API's body. */

export interface Ask {
  readonly service: string;
  readonly gpus: string;
  readonly memoryGib: string;
  readonly model: string;
  readonly priority: string;
  readonly maxDuration: string;
  readonly ttl: string;
  readonly isShared: boolean;
  readonly isPreemptible: boolean;
}

export const EMPTY_ASK: Ask = {
  service: "",
  gpus: "1",
  memoryGib: "",
  model: "",
  priority: "",
  maxDuration: "2h",
  ttl: "",
  isShared: false,
  isPreemptible: false,
};

/** Left out is what is empty: the daemon's own defaults hold then. Whether a value is one it says itself. */
export function bodyOf(ask: Ask): Record<string, unknown> {
  const body: Record<string, unknown> = { service_name: ask.service.trim() };
  const put = (key: string, text: string, value: unknown) => {
    if (text.trim() !== "") body[key] = value;
  };
  put("required_gpus", ask.gpus, Number(ask.gpus));
  put("min_memory_mb", ask.memoryGib, Math.ceil(Number(ask.memoryGib) * 1_024));
  put("gpu_model", ask.model, ask.model.trim());
  put("priority", ask.priority, Number(ask.priority));
  put("max_duration", ask.maxDuration, ask.maxDuration.trim());
  put("ttl", ask.ttl, ask.ttl.trim());
  if (ask.isShared) body.sharing = "shared";
  if (ask.isPreemptible) body.preemptible = true;
  return body;
}

/** What a shell takes to use a grant. */
export function exportsOf(env: Readonly<Record<string, string | undefined>>): string {
  return Object.entries(env)
    .flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]))
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}'`)
    .join("\n");
}
