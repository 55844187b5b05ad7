/** The verifiers of docs/webhooks.md, run as they stand there. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Webhook } from "standardwebhooks";
import { afterAll, expect, test } from "vitest";
import { NOTIFICATION_STATUSES } from "../../src/ports/webhooks.ts";
import { signingKey, webhookHeaders } from "../../src/webhooks/sign.ts";

const PAGE = readFileSync(new URL("../../docs/webhooks.md", import.meta.url), "utf8");
const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-webhooks-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const block = (language: string) => new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, "m").exec(PAGE)?.[1] as string;
const has = (program: string, ...args: string[]) => spawnSync(program, args).status === 0;

interface Case {
  readonly body: string;
  readonly headers: Record<string, string>;
  readonly secret: string;
}

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

function signed(body: string, secret: string, ageS = 0): Case {
  const sentMs = Date.now() - ageS * 1_000;
  return { body, headers: webhookHeaders("msg_1", sentMs, Buffer.from(body), [signingKey(secret)]), secret };
}

const good = signed('{"größe": 1}\n', SECRET);
const byLibrary: Case = {
  ...good,
  headers: { ...good.headers, "webhook-signature": new Webhook(SECRET).sign("msg_1", new Date(), good.body) },
};
/** During a change of secrets a webhook has a signature of each. */
const twice = {
  ...good,
  headers: { ...good.headers, "webhook-signature": `v1,AAAA ${good.headers["webhook-signature"]}` },
};
const unsigned = webhookHeaders("msg_1", Date.now(), Buffer.from(""), []);

const CASES: readonly (readonly [isRight: boolean, given: Case])[] = [
  [true, good],
  [true, byLibrary],
  [true, twice],
  [true, signed("{}", "a plain text")],
  [false, { ...good, body: '{"größe": 2}\n' }],
  [false, { ...good, secret: "whsec_AAAA" }],
  [false, { ...good, headers: { ...good.headers, "webhook-id": "msg_2" } }],
  [false, { ...good, headers: { ...good.headers, "webhook-timestamp": "now" } }],
  [false, signed("{}", SECRET, 3_600)],
  [false, { ...good, headers: unsigned }],
];

function expectVerdicts(program: string, args: readonly string[]): void {
  const input = JSON.stringify(CASES.map(([, given]) => given));
  const { stdout, stderr, status } = spawnSync(program, args, { cwd: folder, input, encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
  expect(JSON.parse(stdout)).toEqual(CASES.map(([isRight]) => isRight));
}

test("Node's verifier takes what the daemon signed, and nothing else", () => {
  writeFileSync(join(folder, "verify.mjs"), block("js"));
  const driver = `import { readFileSync } from "node:fs";
import { verify } from "./verify.mjs";
const given = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(given.map(({ body, headers, secret }) => verify(Buffer.from(body), headers, secret))));`;
  writeFileSync(join(folder, "driver.mjs"), driver);
  expectVerdicts(process.execPath, ["driver.mjs"]);
});

test.skipIf(!has("python3", "-c", "import sys; assert sys.version_info >= (3, 9)"))(
  "Python's verifier takes what the daemon signed, and nothing else (needs python3 3.9 or newer)",
  () => {
    const driver = `import json, sys
given = json.load(sys.stdin)
print(json.dumps([verify(one["body"].encode(), one["headers"], one["secret"]) for one in given]))`;
    writeFileSync(join(folder, "verify.py"), `${block("python")}\n${driver}`);
    expectVerdicts("python3", ["verify.py"]);
  },
);

test.skipIf(!has("go", "version"))(
  "Go's verifier takes what the daemon signed, and nothing else (needs go)",
  { timeout: 300_000 },
  () => {
    writeFileSync(join(folder, "go.mod"), "module example.org/webhooks\n\ngo 1.21\n");
    writeFileSync(join(folder, "verify.go"), block("go"));
    const driver = `package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	var given []struct {
		Body, Secret string
		Headers      map[string]string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	verdicts := []bool{}
	for _, one := range given {
		of := func(name string) string { return one.Headers["webhook-"+name] }
		verdicts = append(verdicts, verify([]byte(one.Body), of("id"), of("timestamp"), of("signature"), one.Secret))
	}
	text, _ := json.Marshal(verdicts)
	fmt.Println(string(text))
}
`;
    writeFileSync(join(folder, "driver.go"), driver);
    expectVerdicts("go", ["run", "."]);
    expect(spawnSync("gofmt", ["-l", "verify.go"], { cwd: folder, encoding: "utf8" }).stdout).toBe("");
  },
);

test("the page has a line for each status that a webhook can have", () => {
  for (const status of NOTIFICATION_STATUSES) expect(PAGE).toMatch(new RegExp(`^\\| .*\`${status}\`.* \\|`, "m"));
});
