import { expect, test } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { load, problemsIn } from "./load-text.ts";

test("every problem of a file is reported at once, in its order, each with line and column", () => {
  const file = `server:
  prot: 8080
  read_timeout: 15
scheduler:
  max_queue_size: "many"
auth:
  enabled: yes
`;
  const env = { PORT: "80a", GRAPH_SERVICE_URL: "graph:8081" };
  expect(problemsIn(file, { env, flags: { simulate: "8xh100" } })).toEqual([
    "FILE:2:3 server.prot: unknown key (did you mean port?)",
    'FILE:3:17 server.read_timeout: expected a duration such as 5s or 1m30s, got 15 (did you mean "15s"?)',
    'FILE:5:19 scheduler.max_queue_size: expected a whole number, got "many"',
    'FILE:7:12 auth.enabled: expected true or false, got "yes" (did you mean true?)',
    'environment PORT: expected a port number, got "80a"',
    "environment GRAPH_SERVICE_URL: expected an http:// or https:// address (did you mean http://graph:8081?)",
    '--simulate: expected a model and a number of GPUs such as h100x8, got "8xh100"',
  ]);
});

test.each([
  ["server: {prot: 1}", "1:10 server.prot: unknown key (did you mean port?)"],
  ["server: {readTimeout: 1s}", "1:10 server.readTimeout: unknown key (did you mean read_timeout?)"],
  ["server: {raed_timeout: 1s}", "1:10 server.raed_timeout: unknown key (did you mean read_timeout?)"],
  ["scheduler: {max_queue: 5}", "1:13 scheduler.max_queue: unknown key (did you mean max_queue_size?)"],
  [
    "workload_defaults: {graph-processing: {}}",
    "1:21 workload_defaults.graph-processing: unknown key (did you mean graph_processing?)",
  ],
  ["port: 8086", "1:1 port: unknown key (did you mean server.port?)"],
  ["maxQueueSize: 8", "1:1 maxQueueSize: unknown key (did you mean scheduler.max_queue_size?)"],
  ["scheduler: {timeout: 1s}", "1:13 scheduler.timeout: unknown key (did you mean monitoring.timeout?)"],
  ["wholly_different: 1", "1:1 wholly_different: unknown key"],
  ["server: {constructor: 1}", "1:10 server.constructor: unknown key"],
  ["server: {__proto__: {port: 1}}", "1:10 server.__proto__: unknown key"],
  ["__proto__: {polluted: true}", "1:1 __proto__: unknown key"],
  ["server: {<<: {port: 1}}", '1:10 server."<<": unknown key: merge keys are not part of YAML 1.2'],
  ['"a\\nb": 1', '1:1 "a\\nb": unknown key'],
])("the unknown key in %s is named, with what was meant if that can be told", (file, problem) => {
  expect(problemsIn(file)).toEqual([`FILE:${problem}`]);
  expect("polluted" in {}).toBe(false);
});

test.each([
  ["server: {port: 70000}", "server.port: must be between 0 and 65535, got 70000"],
  ["server: {port: -1}", "server.port: must be between 0 and 65535, got -1"],
  ["server: {port: 80.5}", "server.port: expected a port number, got 80.5"],
  ['server: {port: ":8086"}', 'server.port: expected a port number, got ":8086" (did you mean 8086?)'],
  ["server: {port: true}", "server.port: expected a port number, got true"],
  ["server: {port: null}", "server.port: expected a port number, got nothing"],
  ["server: {port: [1]}", "server.port: expected a port number, got a list"],
  ["server: 5", "server: expected a section with keys below it, got 5"],
  ["server: [port]", "server: expected a section with keys below it, got a list"],
  ["server: {host: ''}", 'server.host: expected a host name or an IP address, got ""'],
  ["server: {host: 1.2.3}", 'server.host: expected a host name or an IP address, got "1.2.3"'],
  [
    "server: {host: 'http://[::1]:80/'}",
    'server.host: expected a host name or an IP address, got "http://[::1]:80/" (did you mean ::1?)',
  ],
  [
    "server: {allowed_hosts: [a, 'gpu.example.com:80']}",
    'server.allowed_hosts.1: expected a host name or an IP address, got "gpu.example.com:80" (did you mean gpu.example.com?)',
  ],
  ["server: {allowed_hosts: gpu}", 'server.allowed_hosts: expected a list, got "gpu" (did you mean [gpu]?)'],
  ["server: {read_timeout: 0s}", 'server.read_timeout: must be between 100ms and 1d, got "0s"'],
  [
    "server: {read_timeout: 1 min}",
    'server.read_timeout: expected a duration such as 5s or 1m30s, got "1 min" (did you mean "1m"?)',
  ],
  ["server: {read_timeout: {}}", "server.read_timeout: expected a duration such as 5s or 1m30s, got a section"],
  [
    "allocator: {default_ttl: none}",
    'allocator.default_ttl: expected a duration such as 5s or 1m30s, got "none" (did you mean null?)',
  ],
  [
    "allocator: {verify_release: when-used}",
    'allocator.verify_release: expected when_used, always or never, got "when-used" (did you mean when_used?)',
  ],
  ["scheduler: {max_queue_size: 1.5}", "scheduler.max_queue_size: expected a whole number, got 1.5"],
  [
    'scheduler: {max_queue_size: "100"}',
    'scheduler.max_queue_size: expected a whole number, got "100" (did you mean 100?)',
  ],
  ["scheduler: {max_queue_size: -1}", "scheduler.max_queue_size: must be between 0 and 1000000, got -1"],
  ["scheduler: {default_ttl_multiplier: .inf}", "scheduler.default_ttl_multiplier: expected a number, got Infinity"],
  ["scheduler: {default_ttl_multiplier: .nan}", "scheduler.default_ttl_multiplier: expected a number, got NaN"],
  [
    "workload_defaults: {ocr: {default_priority: 11}}",
    "workload_defaults.ocr.default_priority: must be between 1 and 10, got 11",
  ],
  [
    "workload_defaults: {ocr: {default_gpus: 0}}",
    "workload_defaults.ocr.default_gpus: must be between 1 and 1024, got 0",
  ],
  [
    "monitoring: {source: nvidia}",
    'monitoring.source: expected nvidia-smi or simulated, got "nvidia" (did you mean nvidia-smi?)',
  ],
  [
    "monitoring: {nvidia_smi_path: ''}",
    'monitoring.nvidia_smi_path: expected the path of a program, got "" (did you mean null?)',
  ],
  [
    "services: {deepagents_url: 'ftp://user:pass@host'}",
    "services.deepagents_url: expected an http:// or https:// address",
  ],
  ["services: {deepagents_url: 'http://a b'}", "services.deepagents_url: expected an http:// or https:// address"],
  ["auth: {header_name: 'X API Key'}", 'auth.header_name: expected the name of an HTTP header, got "X API Key"'],
  ["storage: {path: ''}", 'storage.path: expected the path of a file, or :memory:, got ""'],
  ["storage: {retention: 7d}", 'storage.retention: must be between 30d and 3650d, got "7d"'],
  ["webhooks: {secret: whsec_hunter!}", "webhooks.secret: what follows `whsec_` is not base64"],
  ["webhooks: {secret: whsec_QUJDR}", "webhooks.secret: what follows `whsec_` is not base64"],
  ["webhooks: {secret: whsec_}", "webhooks.secret: what follows `whsec_` is not base64"],
  ["webhooks: {secret: 12345678}", "webhooks.secret: expected `whsec_` and base64, or other text in quotes"],
  [
    "webhooks: {secrets: k9-do-not-print}",
    "webhooks.secrets: expected a section of `PRINCIPAL: SECRET` lines, got text",
  ],
  [
    "webhooks: {secrets: {ann: 12345678}}",
    "webhooks.secrets.ann: expected `whsec_` and base64, or other text in quotes",
  ],
  [
    "webhooks: {allowed_hosts: ['https://a']}",
    'webhooks.allowed_hosts.0: expected `external`, `loopback`, a name, an address or a CIDR block, got "https://a"',
  ],
  [
    "logging: {level: warning}",
    'logging.level: expected fatal, error, warn, info, debug or trace, got "warning" (did you mean warn?)',
  ],
  ["simulation: {host: h100}", 'simulation.host: expected a model and a number of GPUs such as h100x8, got "h100"'],
])("%s is refused", (file, problem) => {
  expect(problemsIn(file).map((line) => line.replace(/^FILE:\d+:\d+ /, ""))).toEqual([problem]);
});

test("a key that is given twice is reported where it stands again", () => {
  expect(problemsIn("server:\n  port: 1\n  host: ::1\n  port: 2\nserver: {}\n")).toEqual([
    "FILE:4:3 server.port: given twice, first in line 2",
    "FILE:5:1 server: given twice, first in line 1",
  ]);
});

test("a wrong value in the file is reported even where the environment replaces it", () => {
  expect(problemsIn("server: {port: 99999}", { env: { PORT: "80" } })).toEqual([
    "FILE:1:16 server.port: must be between 0 and 65535, got 99999",
  ]);
});

test.each([
  ["a: [1", /^FILE:1:\d+: not valid YAML: Flow sequence .*must/],
  ["server:\n  port: 1\n port: 2\n", /^FILE:3:\d+: not valid YAML: /],
  ["server:\n\tport: 1\n", /^FILE:2:1: not valid YAML: Tabs are not allowed as indentation/],
  ["a: 1\n---\nb: 2\n", /^FILE:2:1: not valid YAML: a second YAML document begins, and only one is read/],
  ["? [a]\n: 1\n", /^FILE:1:3: not valid YAML: a key must be text/],
  ["%YAML 1.1\n---\nserver: {}\n", /^FILE:1:1: only YAML 1.2 is read/],
  ["server: !!set {port}", /^FILE:1:9: not valid YAML: Unresolved tag/],
  ["just text", /^FILE:1:1: expected keys and values, such as `server:`/],
  ["- server\n- auth\n", /^FILE:1:1: expected keys and values, such as `server:`/],
  ["server: *nowhere", /^FILE:1:9 server: an alias without an anchor before it/],
])("what is no YAML 1.2 map (%j) is reported with its position", (file, problem) => {
  const problems = problemsIn(file);
  expect(problems[0]).toMatch(problem);
});

test("a file that cannot be read as YAML is not judged as if it were empty", () => {
  const problems = problemsIn("auth: {enabled: true", { env: { GPU_ORCHESTRATOR_HOST: "0.0.0.0" } });
  expect(problems).toHaveLength(1);
});

test("a file that cannot be read as YAML does not hide what is wrong with the environment", () => {
  expect(problemsIn("a: [1", { env: { PORT: "x" } }).at(-1)).toBe('environment PORT: expected a port number, got "x"');
});

test("YAML's parser never makes a message of what stands in the file", () => {
  const secret = "k9-do-not-print";
  for (const file of [
    `auth:\n  api_keys:\n    *${secret}: bob\n`,
    `auth:\n  api_keys:\n    !${secret} x: bob\n`,
    `auth: "\\q${secret}`,
    `auth:\n  api_keys: ]${secret}\n`,
    `%${secret} 1\n---\n`,
    `auth: {"${secret}}`,
    `auth:\n  api_keys: &${secret} *${secret}\n`,
  ]) {
    const problems = problemsIn(file);
    expect(problems.length).toBeGreaterThan(0);
    expect(problems.join("\n")).not.toContain(secret);
  }
});

test.each([
  ["nested lists", `a: ${"[".repeat(100_000)}`, "nested too deeply"],
  ["nested maps", `a: ${"{a: ".repeat(50_000)}`, "not valid YAML"],
  ["nested dashes", `${"- ".repeat(100_000)}a`, "nested too deeply"],
  ["lists in lists", `a: ${"[".repeat(20)}${"]".repeat(20)}`, "nested more than 16 levels deep"],
  ["an alias of itself", "server: &a {port: *a}", "nested more than 16 levels deep"],
  ["aliases that double each time", doubling(40), "follows more than 100 aliases"],
  ["a thousand aliases", `server: &a 1\nb: [${"*a,".repeat(1_000)}]`, "follows more than 100 aliases"],
  ["too many values", `a: [${"1,".repeat(60_000)}]`, "holds more than 50000 values"],
  ["large aliases", `a: &a [${"1,".repeat(1_000)}]\nb: [${"*a,".repeat(90)}]`, "holds more than 50000 values"],
])("%s end in an error soon", (_, file, problem) => {
  const start = performance.now();
  expect(problemsIn(file).join("\n")).toContain(problem);
  expect(performance.now() - start).toBeLessThan(10_000);
});

/** Each line holds the one before it twice. */
function doubling(lines: number): string {
  const rest = Array.from({ length: lines }, (_, index) => `a${index + 1}: &a${index + 1} [*a${index}, *a${index}]`);
  return ["a0: &a0 [1]", ...rest].join("\n");
}

test("beyond loopback the daemon is not opened to everybody by accident", () => {
  const refused = (place: string) =>
    `${place}: 0.0.0.0 can be reached from other hosts while auth.enabled is false: ` +
    "set auth.enabled: true, or server.allow_unauthenticated: true if everybody there may lease GPUs";
  expect(problemsIn("server:\n  host: 0.0.0.0\n")).toEqual([refused("FILE:2:9 server.host")]);
  expect(problemsIn("", { env: { GPU_ORCHESTRATOR_HOST: "0.0.0.0" } })).toEqual([
    refused("environment GPU_ORCHESTRATOR_HOST"),
  ]);
  expect(problemsIn("", { flags: { host: "0.0.0.0" } })).toEqual([refused("--host")]);
  expect(problemsIn("", { env: { GPU_ORCHESTRATOR_HOST: "::1" }, flags: { host: "0.0.0.0" } })).toEqual([
    refused("--host"),
  ]);
  expect(problemsIn("server: {host: 0.0.0.0, allow_unauthenticated: true}")).toEqual([]);
  expect(problemsIn("{server: {host: 0.0.0.0}, auth: {enabled: true, api_keys: {a-key-of-some-length: bob}}}")).toEqual(
    [],
  );
});

test.each([
  ["auth: {enabled: true}", "1:17 auth.enabled: nobody could get in: auth.api_keys is empty"],
  [
    "monitoring: {refresh_interval: 10s, stale_after: 10s}",
    "1:50 monitoring.stale_after: must be longer than monitoring.refresh_interval, or every reading is stale before the next one comes",
  ],
  [
    "workload_defaults: {ocr: {large_batch_size: 201}}",
    "1:26 workload_defaults.ocr.xlarge_batch_size: must be at least large_batch_size, 201",
  ],
  [
    "workload_defaults: {training: {very_high_concurrency: 9}}",
    "1:55 workload_defaults.training.very_high_concurrency: must be at least high_concurrency, 10",
  ],
])("settings that contradict each other (%s) are refused", (file, problem) => {
  expect(problemsIn(file)).toEqual([`FILE:${problem}`]);
});

test("pages elsewhere are let in with keys only, unless it is said that everybody may", () => {
  const pages = "allowed_origins: [https://gpus.example.org]";
  expect(problemsIn(`server: {${pages}}`)).toEqual([
    expect.stringMatching(/server\.allowed_origins.*would be an admin/),
  ]);
  expect(problemsIn(`{server: {${pages}}, auth: {enabled: true, api_keys: {a-key-of-some-length: ann}}}`)).toEqual([]);
  expect(problemsIn(`server: {${pages}, allow_unauthenticated: true}`)).toEqual([]);
});

test("a contradiction is reported beside problems elsewhere, but not when it hangs on one of them", () => {
  expect(problemsIn("{server: {host: 0.0.0.0, prt: 1}, logging: {level: 5}}")).toHaveLength(3);
  expect(problemsIn("{server: {host: 0.0.0.0}, auth: {enabled: yes}}")).toEqual([
    'FILE:1:43 auth.enabled: expected true or false, got "yes" (did you mean true?)',
  ]);
  expect(problemsIn("{server: {host: 0.0.0.0}, auth: {enabld: true}}")).toEqual([
    "FILE:1:34 auth.enabld: unknown key (did you mean enabled?)",
  ]);
  expect(problemsIn("{auth: {enabled: true, api_keys: {a: 5}}}")).toHaveLength(1);
});

test("other rooms add rules about their own settings, which are skipped when a setting is wrong already", () => {
  const rules = [
    {
      reads: [["simulation", "host"]] as const,
      check: ({ simulation }: Config) => (simulation.host === "h100x8" ? null : `${simulation.host} is not known`),
    },
  ];
  expect(problemsIn("simulation:\n  host: z9x9\n", { rules })).toEqual(["FILE:2:9 simulation.host: z9x9 is not known"]);
  expect(problemsIn("", { flags: { simulate: "z9x9" }, rules })).toEqual(["--simulate: z9x9 is not known"]);
  expect(problemsIn("simulation: {host: 5}", { rules })).toHaveLength(1);
  expect(problemsIn("", { rules })).toEqual([]);
});

test.each([
  "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
  "a secret of my own, long enough",
  "d2l0aG91dCBhIHByZWZpeCBpdCBpcyB0ZXh0",
])("the webhook secret %j is taken as it is", (secret) => {
  const { config, warnings } = load(`webhooks: {secret: "${secret}"}`);
  expect(config.webhooks.secrets).toEqual([secret]);
  expect(warnings).toEqual([]);
});

test("control characters of the file come out as escapes, in keys, values and hints", () => {
  const problems = problemsIn(
    '{"a\\u001b[2J": 1, server: {host: "\\u009b\\u202e"}, webhooks: {allowed_hosts: "\\u001b"}}',
  );
  expect(problems).toHaveLength(3);
  expect(problems.join("")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  expect(problems[1]).toContain("\\u{9b}\\u{202e}");
});

test("what is allowed but unwise is a warning with its place", () => {
  const { warnings } = load("auth:\n  api_keys:\n    short: bob\nwebhooks:\n  secret: whsec_c2hvcnQ=\n");
  expect(warnings.map(({ origin, path, message }) => [origin.kind === "file" && origin.line, path, message])).toEqual([
    [3, "auth.api_keys", "not asked for, since auth.enabled is false: everybody is an admin"],
    [5, "webhooks.secret", "shorter than 24 bytes, so it could be guessed"],
    [3, "auth.api_keys.(hidden)", "shorter than 16 characters, so it could be guessed"],
  ]);
});
