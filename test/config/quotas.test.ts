import { expect, test } from "vitest";
import { policyOf } from "../../src/config/policy.ts";
import { reloadable } from "../../src/config/reload.ts";
import { configOf, problemsIn } from "./load-text.ts";

const HOUR_MS = 3_600_000;
const NONE = { maxGpus: null, maxQueued: null, maxPriority: null, gpuTime: null };
const quotasOf = (content: string) => policyOf(configOf(content)).quotas;

test("without settings nobody has a quota", () => {
  expect(quotasOf("")).toEqual({ principals: {}, services: {}, defaultPrincipal: NONE, defaultService: NONE });
});

test("what a named account leaves out is as in the default, and null takes a limit away", () => {
  const quotas = quotasOf(`
quotas:
  default_principal: {max_gpus: 2, max_queued: 5, gpu_hours: {limit: 10, per: 12h}}
  principals:
    alice: {max_gpus: 4}
    bob: {max_gpus: null, gpu_hours: {limit: 2.5}}
    cyd: {max_priority: 3, gpu_hours: {limit: null}}
    dan:
  services: {ocr: {max_gpus: 1}}
`);
  const byDefault = {
    maxGpus: 2,
    maxQueued: 5,
    maxPriority: null,
    gpuTime: { limitMs: 10 * HOUR_MS, periodMs: 12 * HOUR_MS },
  };
  expect(quotas.defaultPrincipal).toEqual(byDefault);
  expect(quotas.defaultService).toEqual(NONE);
  expect(quotas.principals).toEqual({
    alice: { ...byDefault, maxGpus: 4 },
    bob: { ...byDefault, maxGpus: null, gpuTime: { limitMs: 2.5 * HOUR_MS, periodMs: 12 * HOUR_MS } },
    cyd: { ...byDefault, maxPriority: 3, gpuTime: null },
    dan: byDefault,
  });
  expect(quotas.services).toEqual({ ocr: { ...NONE, maxGpus: 1 } });
});

test("a key may bring the quotas of its principal", () => {
  const config = configOf(`
auth: {enabled: true, api_keys: {a-key-of-some-length: {principal: alice, quotas: {max_gpus: 3}}, another-key-of-some-length: alice}}
quotas: {default_principal: {max_queued: 7}, principals: {bob: {max_gpus: 1}}}
`);
  expect(policyOf(config).quotas.principals).toEqual({
    alice: { ...NONE, maxGpus: 3, maxQueued: 7 },
    bob: { ...NONE, maxGpus: 1, maxQueued: 7 },
  });
});

test.each([
  [
    "quotas: {principals: {bob: {max_gpu: 1}}}",
    "FILE:1:29 quotas.principals.bob.max_gpu: unknown key (did you mean max_gpus?)",
  ],
  [
    "quotas: {principals: {bob: {max_gpus: -1}}}",
    "FILE:1:39 quotas.principals.bob.max_gpus: must be between 0 and 1024, got -1",
  ],
  [
    "quotas: {principals: {bob: {max_gpus: none}}}",
    'FILE:1:39 quotas.principals.bob.max_gpus: expected a whole number, got "none" (did you mean null?)',
  ],
  ["quotas: {principals: {bob: 4}}", "FILE:1:28 quotas.principals.bob: expected a section with keys below it, got 4"],
  [
    "quotas: {principals: [bob]}",
    "FILE:1:22 quotas.principals: expected a section of `NAME: {max_gpus, ...}` lines, got a list",
  ],
  [
    "quotas: {services: {a b: {max_gpus: 1}}}",
    'FILE:1:26 quotas.services."a b": expected a service\'s name: 1 to 128 of A-Z a-z 0-9 . _ -, got "a b"',
  ],
  [
    "quotas: {default_service: {max_priority: 11}}",
    "FILE:1:42 quotas.default_service.max_priority: must be between 1 and 10, got 11",
  ],
  [
    "quotas: {default_service: {gpu_hours: {limit: 1, per: 31d}}}",
    'FILE:1:55 quotas.default_service.gpu_hours.per: must be between 1h and 30d, got "31d"',
  ],
  [
    "quotas: {services: {ocr: {gpu_hours: {limit: 1h}}}}",
    'FILE:1:46 quotas.services.ocr.gpu_hours.limit: expected a number, got "1h"',
  ],
  [
    "quotas: {services: {ocr: {gpu_hours: 5}}}",
    "FILE:1:38 quotas.services.ocr.gpu_hours: expected a section with keys below it, got 5",
  ],
  [
    "auth: {enabled: true, api_keys: {a-key-of-some-length: {principal: bob, quotas: {max_gpus: x}}}}",
    'FILE:1:92 auth.api_keys.(hidden).quotas.max_gpus: expected a whole number, got "x"',
  ],
  [
    "auth: {enabled: true, api_keys: {a-key-of-some-length: {principal: bob, quotas: {max_gpus: 1}}}}\nquotas: {principals: {bob: {max_gpus: 1}}}",
    'FILE:1:33 auth.api_keys: the quotas of "bob" are given twice',
  ],
  [
    "{quotas: {default_service: {max_gpus: 1}}, scheduler: {max_queue_size: 1001}}",
    "FILE:1:28 quotas.default_service: keeps every service that waits apart, in every decision, and clients choose their services' names: name those that have max_gpus or gpu_hours, or let scheduler.max_queue_size be 1000 at most",
  ],
])("%s is refused, where it stands", (content, problem) => {
  expect(problemsIn(content)).toEqual([problem]);
});

test("all problems of quotas are told at once", () => {
  const problems = problemsIn(`
quotas:
  default_principal: {max_gpus: x}
  principals: {bob: {max_queued: 1.5, max_priority: 0}, cyd: {max_gpus: y}}
`);
  expect(problems.map((line) => line.replace(/^FILE:\d+:\d+ quotas\.([^:]+):.*/, "$1"))).toEqual([
    "default_principal.max_gpus",
    "principals.bob.max_queued",
    "principals.bob.max_priority",
    "principals.cyd.max_gpus",
  ]);
});

test("quotas change at a reload, and those of a name that JavaScript knows are a name's like any other", () => {
  const next = configOf("quotas: {principals: {__proto__: {max_gpus: 1}}, services: {constructor: {max_gpus: 2}}}");
  const { config, ignored } = reloadable(configOf(""), next);
  expect(ignored).toEqual([]);
  expect(Object.entries(policyOf(config).quotas.principals)).toEqual([["__proto__", { ...NONE, maxGpus: 1 }]]);
  expect(Object.entries(policyOf(config).quotas.services)).toEqual([["constructor", { ...NONE, maxGpus: 2 }]]);
});
