import { expect, test } from "vitest";
import { keys, lineFor } from "../../src/cli/verbs/keys.ts";
import { load } from "../config/load-text.ts";

const made = (principal: string, options: { role: string; expires?: string }) => {
  const text = lineFor(principal, options);
  return { key: /^key: (\S+)$/m.exec(text)?.[1] ?? "", line: text.split("\n").at(-1) ?? "" };
};

test("a key is made once, has a prefix, 30 random characters and a checksum, and its line does not tell it", () => {
  const { key, line } = made("alice", { role: "read" });
  expect(key).toMatch(/^gpuo_[0-9A-Za-z]{36}$/);
  expect(line).not.toContain(key.slice("gpuo_".length));
  expect(made("alice", { role: "read" }).key).not.toBe(key);
});

test("the line is one that the settings take, with principal, role and expiry", () => {
  const { line } = made("team: a", { role: "run", expires: "2027-06-30" });
  const { config, warnings } = load(`auth:\n  enabled: true\n  api_keys:\n${line}\n`);
  expect(warnings).toEqual([]);
  expect(config.auth.keys).toMatchObject([
    { principal: "team: a", role: "run", expiresAt: Date.parse("2027-06-30T00:00:00Z") },
  ]);
});

test("an expiry that is no instant is refused by the settings, and a role that there is not by the verb", async () => {
  expect(() => load("auth: {api_keys: {a-key-of-some-length: {principal: bob, expires: tomorrow}}}")).toThrow(
    /a day such as/,
  );
  await expect(keys("create", "bob", { role: "root" })).rejects.toThrow(/expected read/);
  await expect(keys("rotate", "bob", { role: "read" })).rejects.toThrow(/expected create, list or revoke/);
});
