import { expect, test } from "vitest";
import { SETTING_RULES } from "../../src/daemon/setting-rules.ts";
import { problemsIn } from "../config/load-text.ts";

const problems = (tls: string) => problemsIn(`server: {tls: ${tls}}`, { rules: SETTING_RULES });

test("a certificate without its key, or one that cannot be read, is a problem of the settings", () => {
  expect(problems("{cert: /nowhere/cert.pem}")).toEqual([
    expect.stringContaining("server.tls: a certificate needs its key: set server.tls.key too"),
  ]);
  expect(problems("{cert: /nowhere/cert.pem, key: /nowhere/key.pem}")).toEqual([
    expect.stringMatching(/server\.tls: cannot be used: .*\/nowhere\/cert\.pem/),
  ]);
  expect(problems("{cert: cert.pem, key: null}")).toEqual([expect.stringContaining("absolute path of a file")]);
});
