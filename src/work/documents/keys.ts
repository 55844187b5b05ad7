/** The keys of both kinds of documents: MLOC's, word for word, and ours beside them. */
import { STOP_SIGNALS } from "../model.ts";
import {
  anything,
  cpu,
  decimal,
  duration,
  flag,
  integer,
  listOf,
  mapOf,
  matching,
  memory,
  number,
  oneOf,
  type Shape,
  words,
} from "./shape.ts";

export const MLOC = "mloc/v1";
export const OURS = "gpu-orchestrator/v1";

export const MAX_GPUS = 64;
export const MAX_REPLICAS = 64;
const MAX_PROMPT = 1_000_000;

/** `name` or `org/name`, or an absolute path; never something that a program would take for a flag. */
export const IDENTIFIER = /^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?$/;
export const LABEL_KEY = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$/;
export const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const WEB_ADDRESS = /^https?:\/\/[\x21-\x7e]{1,2040}$/;
/** What frames a message, says what it is, or who sent it, is the sender's to say. */
const HEADER_NAME =
  /^(?!(?:host|connection|content-length|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-[^:]*|webhook-[^:]*)$)[A-Za-z0-9-]{1,64}$/i;
const HEADER_VALUE = /^[\x20-\x7e]{0,4096}$/;

const identifier = matching("name or org/name of A-Z a-z 0-9 . _ -", IDENTIFIER);
const labels = mapOf(LABEL_KEY, (value) =>
  typeof value === "string" && value.length <= 256 ? null : "expected text of up to 256 characters",
);
const name = matching("a name of 1 to 128 of A-Z a-z 0-9 . _ -, not beginning with - or .", ID);
/** What a client sends ends up in an argument: it must not be taken for a flag. */
const value = matching("text that does not begin with -", /^[^\p{Cc}-][^\p{Cc}]{0,255}$/u);
const prompts = listOf(words(MAX_PROMPT));

const hardware: Shape = {
  cpu,
  memory,
  gpu: {
    type: matching("the name of a GPU, or any", /^[A-Za-z0-9 ._-]{1,64}$/),
    count: integer(0, MAX_GPUS),
  },
};

const vllm: Shape = {
  tensor_parallel_size: integer(1, MAX_GPUS),
  gpu_memory_utilization: decimal(0.01, 1),
  trust_remote_code: flag,
  max_model_len: integer(1, 100_000_000),
  dtype: oneOf("auto", "half", "float16", "bfloat16", "float", "float32"),
  download_dir: anything,
};

/** What a run of either kind may say, beside what MLOC knows. */
export const RUN_KEYS: Shape = {
  executor: name,
  command: listOf(matching("text without NUL", /^[^\0]{0,32768}$/), 1_024),
  image: matching("the name of an image", /^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}$/),
  env: mapOf(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, (given) =>
    typeof given === "string" && given.length <= 32_768 && !given.includes("\0") ? null : "expected text",
  ),
  secrets: listOf(name, 64),
  node_selector: labels,
  tags: listOf(value, 64),
  priority: integer(1, 10),
  gpu_memory_mb: integer(1, 2 ** 31),
  max_duration: duration("1s", "3650d"),
  start_timeout: duration("1s", "1d"),
  timeout: duration("1s", "3650d"),
  stop: { signal: oneOf(...STOP_SIGNALS), grace: duration("0s", "1h"), to: oneOf("main", "group") },
};

export const RESTART_KEYS: Shape = {
  restart: {
    policy: oneOf("always", "on-failure", "never"),
    backoff: duration("100ms", "1h"),
    max_backoff: duration("100ms", "1d"),
    give_up_after: integer(1, 1_000),
  },
  readiness: { http: matching("a path such as /health", /^\/[\x21-\x7e]{0,255}$/), interval: duration("100ms", "1h") },
  liveness: {
    completion: flag,
    interval: duration("1s", "1h"),
    timeout: duration("1s", "10m"),
    failures: integer(1, 100),
  },
};

const exitCodes = listOf(integer(0, 255), 256);

export const RETRY_KEYS: Shape = {
  depends_on: listOf(name, 64),
  webhook_url: matching("an http or https address", WEB_ADDRESS),
  retry: {
    max: integer(0, 100),
    lost: integer(0, 100),
    on: exitCodes,
    never_on: exitCodes,
    backoff: duration("100ms", "1d"),
    max_backoff: duration("100ms", "1d"),
  },
};

const training: Shape = {
  learning_rate: number,
  batch_size: integer(1, 1_000_000),
  mini_batch_size: integer(1, 1_000_000),
  gradient_accumulation_steps: integer(1, 1_000_000),
  steps: integer(1, 1_000_000_000),
  ppo_epochs: integer(1, 1_000_000),
  target_kl: number,
  early_stopping: flag,
  seed: integer(0, 2 ** 32),
  save_model: flag,
  save_freq: integer(1, 1_000_000_000),
  optimize_cuda_cache: flag,
  log_with: words(64),
  tracker_project_name: words(256),
  backend: oneOf("own", "trl"),
};

export const SPEC_KEYS: Shape = {
  taskType: words(64),
  resources: { replicas: integer(1, MAX_REPLICAS), hardware },
  model: {
    source: { type: words(64), identifier, revision: value, trust_remote_code: flag },
    config: { fp16: flag, device_map_auto: flag },
    vllm,
    service: name,
  },
  data: {
    type: oneOf("list", "dataset"),
    items: prompts,
    prompts,
    url: (given) => (typeof given === "string" && WEB_ADDRESS.test(given) ? null : identifier(given)),
    // It may be what is read: no address and no path then, which `url` is judged for.
    name: identifier,
    dataset_name: identifier,
    config_name: words(256),
    split: words(256),
    column: words(256),
    shuffle: flag,
    seed: integer(0, 2 ** 32),
    buffer_size: integer(1, 1_000_000_000),
    max_samples: integer(1, 1_000_000_000),
  },
  inference: {
    prompts,
    max_tokens: integer(1, 10_000_000),
    temperature: decimal(0, 100),
    top_p: decimal(0, 1),
    top_k: integer(-1, 10_000_000),
    presence_penalty: decimal(-2, 2),
    frequency_penalty: decimal(-2, 2),
    stop: (given) => (typeof given === "string" ? null : listOf(words(1_024), 16)(given)),
  },
  reward_model: { identifier, type: words(64) },
  training,
  generation: { max_new_tokens: integer(1, 1_000_000), temperature: decimal(0, 100), do_sample: flag },
  output: {
    destination: {
      type: words(64),
      path: anything,
      url: matching("an http or https address", WEB_ADDRESS),
      headers: mapOf(HEADER_NAME, (given) =>
        typeof given === "string" && HEADER_VALUE.test(given)
          ? null
          : "expected a header's value of up to 4096 characters",
      ),
    },
    artifacts: listOf(words(512), 1_024),
  },
};

export const METADATA_KEYS: Shape = { name, owner: words(128), labels, annotations: anything };
export { labels as LABELS_KIND, name as NAME_KIND };
