import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { describeConfig } from "../../src/config/describe.ts";
import { configOf, load, problemsIn } from "./load-text.ts";

const KEY = "a-key-of-some-length";
const sha256 = (key: string) => createHash("sha256").update(key).digest("hex");
const keysOf = (apiKeys: string) => configOf(`auth: {enabled: true, api_keys: ${apiKeys}}`).auth.keys;
const problemsOf = (apiKeys: string) =>
  problemsIn(`auth: {enabled: true, api_keys: ${apiKeys}}`).map((line) =>
    line.replace(/^FILE:\d+:\d+ auth\.api_keys/, ""),
  );

test("KEY: NAME gives the name the role allocate, and keeps only the key's hash", () => {
  const config = configOf(`auth: {enabled: true, api_keys: {${KEY}: bob}}`);
  expect(config.auth.keys).toEqual([{ sha256: sha256(KEY), principal: "bob", role: "allocate", quotas: null }]);
  expect(JSON.stringify(config)).not.toContain(KEY);
});

test("a key may have a principal and a role, and two keys one principal", () => {
  expect(
    keysOf("{first-key-of-alice: {principal: alice, role: admin}, second-key-of-alice: {principal: alice}}"),
  ).toEqual([
    { sha256: sha256("first-key-of-alice"), principal: "alice", role: "admin", quotas: null },
    { sha256: sha256("second-key-of-alice"), principal: "alice", role: "allocate", quotas: null },
  ]);
});

test("a key may ask on behalf of others where its line says so", () => {
  expect(keysOf(`{${KEY}: {principal: broker, delegate: true}}`)).toEqual([
    { sha256: sha256(KEY), principal: "broker", role: "allocate", quotas: null, delegate: true },
  ]);
});

test("a key may be given as its SHA-256, in any case", () => {
  const hash = sha256(KEY);
  expect(keysOf(`{"sha256:${hash.toUpperCase()}": bob}`)).toEqual([
    { sha256: hash, principal: "bob", role: "allocate", quotas: null },
  ]);
  expect(load(`auth: {enabled: true, api_keys: {"sha256:${hash}": bob}}`).warnings).toEqual([]);
});

test.each(["0123", "1e5", "true", "null", "0x10", "__proto__", "constructor", "007.50"])(
  "the key %s is the text that stands there, whatever YAML or JavaScript would make of it",
  (key) => {
    expect(keysOf(`{${key}: bob}`)).toEqual([
      { sha256: sha256(key), principal: "bob", role: "allocate", quotas: null },
    ]);
  },
);

test.each([
  ["{'': bob}", ".(hidden): an API key must not be empty"],
  ["{' ': bob}", ".(hidden): an API key must not be empty"],
  ["{sha256:12: bob}", ".(hidden): expected 64 hex digits after `sha256:`"],
  [`{${KEY}: 5}`, ".(hidden): expected a name, or {principal: NAME, role: ROLE}, got 5"],
  [`{${KEY}: null}`, ".(hidden): expected a name, or {principal: NAME, role: ROLE}, got nothing"],
  [`{${KEY}: ''}`, '.(hidden).principal: expected a name of 1 to 128 characters, got ""'],
  [`{${KEY}: " bob"}`, '.(hidden).principal: expected a name of 1 to 128 characters, got " bob"'],
  [`{${KEY}: "bo\\nb"}`, '.(hidden).principal: expected a name of 1 to 128 characters, got "bo\\nb"'],
  [`{${KEY}: {role: admin}}`, ".(hidden).principal: expected a name of 1 to 128 characters, got nothing"],
  [`{${KEY}: {principal: bob, role: root}}`, '.(hidden).role: expected read, allocate, run or admin, got "root"'],
  [`{${KEY}: {principal: bob, rol: admin}}`, ".(hidden).rol: unknown key (did you mean role?)"],
  [`{${KEY}: {principal: bob, share: 1}}`, ".(hidden): unknown key, not shown since it may be an API key"],
  [`[${KEY}]`, ": expected a section of `KEY: NAME` lines"],
  [KEY, ": expected a section of `KEY: NAME` lines"],
  [`{${KEY}: bob, "sha256:${sha256(KEY)}": alice}`, ".(hidden): the same key is given above"],
  [`{${KEY}: bob, ${KEY}: bob}`, ".(hidden): given twice, first in line 1"],
])("api_keys: %s is refused without showing a key", (apiKeys, problem) => {
  const problems = problemsOf(apiKeys);
  expect(problems.join("\n")).toContain(problem);
  expect(problems).toHaveLength(1);
  expect(problems.join("\n")).not.toContain(KEY);
});

test("keys that lost their indentation are not shown either", () => {
  expect(problemsIn(`auth:\n  api_keys:\n  ${KEY}: bob\n`)).toEqual([
    "FILE:3:3 auth.(hidden): unknown key, not shown since it may be an API key",
  ]);
});

test("a key that no client could send is warned of", () => {
  const { warnings } = load('auth: {enabled: true, api_keys: {"schlüssel-der-lang-ist": bob}}');
  expect(warnings.map(({ message }) => message)).toEqual(["has characters that clients cannot send in a header"]);
});

test("the log shows who has a key, and no key, hash, secret or password", () => {
  const secret = `whsec_${Buffer.from("s".repeat(24)).toString("base64")}`;
  const config = configOf(
    `{auth: {enabled: true, api_keys: {${KEY}: bob}}, webhooks: {secret: ${secret}}, ` +
      "services: {deepagents_url: 'http://user:hunter2@host:1/path?token=hunter2', graph_service_url: ''}}",
  );
  const described = describeConfig(config);
  const text = JSON.stringify(described);

  expect(JSON.parse(text)).toEqual(described);
  expect(described.auth.keys).toEqual([{ principal: "bob", role: "allocate" }]);
  expect(described.webhooks.secret).toBe("set");
  expect(described.services).toMatchObject({ deepagentsUrl: "http://host:1", graphServiceUrl: null });
  for (const hidden of [KEY, sha256(KEY), secret.slice(6), "hunter2", "user"]) expect(text).not.toContain(hidden);
});
