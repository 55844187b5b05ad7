/** Secrets and what is one principal's own, each as a word that stands nowhere else, and all places where it must not be. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually, isBuilt } from "./daemon.ts";
import { receive, startReady } from "./steps.ts";

const CANARY = {
  key: "canary-key-3f1c9a7e5b2d",
  otherKey: "canary-other-key-77aa01",
  adminKey: "canary-admin-key-5512",
  wrongKey: "canary-wrong-key-9e8d7c",
  secret: "canary-webhook-secret-0a1b2c3d",
  ownSecret: "canary-own-secret-4e5f6a7b",
  data: "canary-workload-data-c0ffee",
  address: "canary-webhook-address-beef",
};
const SECRETS = [CANARY.key, CANARY.otherKey, CANARY.adminKey, CANARY.wrongKey, CANARY.secret, CANARY.ownSecret];
const OWN = [CANARY.data, CANARY.address];

const config = (level: string) => `
logging: {level: ${level}}
storage: {path: state.db}
auth:
  enabled: true
  api_keys:
    ${CANARY.key}: ann
    ${CANARY.otherKey}: bob
    ${CANARY.adminKey}: {principal: root, role: admin}
webhooks:
  secret: ${CANARY.secret}
  secrets: {bob: ${CANARY.ownSecret}}
`;

/** Those of `words` that are in `texts`. */
const found = (words: readonly string[], texts: readonly string[]) =>
  words.filter((word) => texts.some((text) => text.includes(word)));

test.skipIf(!isBuilt).each(["trace", "debug", "info"])(
  "at the log level %s no key, secret, workload data or address is where it does not belong",
  async (level) => {
    const receiver = await receive();
    const daemon = await startReady({ config: config(level) });
    const as = (key: string) => ({ "X-API-Key": key });
    const [ann, bob] = [as(CANARY.key), as(CANARY.otherKey)];
    const body = {
      service_name: "svc",
      ttl: 1,
      webhook_url: `${receiver.url}/${CANARY.address}?token=${CANARY.address}`,
      workload_data: { note: CANARY.data, [CANARY.data]: 1 },
    };
    const granted = await daemon.call("POST", "/gpu/allocate", body, ann);
    expect(granted.status).toBe(200);
    const token = String(granted.body.fencing_token);
    const held = await daemon.call("POST", "/gpu/allocate", { ...body, ttl: 3_600 }, ann);
    // What is wrong with them, and who asks, is told to nobody else.
    const refused = [
      await daemon.call("POST", "/gpu/allocate", { ...body, priority: "high" }, ann),
      await daemon.call("POST", "/gpu/allocate", body, as(CANARY.wrongKey)),
      await daemon.call("POST", `/gpu/allocations/${held.body.id}/renew`, {}, bob),
      await daemon.call("GET", `/gpu/events?${CANARY.data}=1`, undefined, bob),
    ];
    expect(refused.map(({ status }) => status)).toEqual([422, 401, 403, 422]);
    const webhook = { service_name: "other", webhook_url: `${receiver.url}/of-bob`, ttl: 1 };
    await daemon.call("POST", "/gpu/allocate", webhook, bob);
    await eventually(
      async () => JSON.stringify(receiver.received.map(({ body: told }) => told)),
      (told) => told.includes('"service_name":"other"') && told.includes('"service_name":"svc"'),
    );

    const shown: string[] = [];
    for (const path of [
      "status",
      "list",
      "allocations",
      `allocations/${held.body.id}`,
      "usage",
      "history",
      "me",
      "quotas",
      "windows",
    ]) {
      shown.push(JSON.stringify((await daemon.call("GET", `/gpu/${path}`, undefined, bob)).body));
    }
    const events = await fetch(`${daemon.url}/gpu/events`, {
      headers: { ...bob, "Last-Event-ID": "0" },
      signal: AbortSignal.timeout(1_500),
    });
    const told = await readWhatComes(events);
    expect(told).toContain("granted");
    const metrics = String((await daemon.call("GET", "/metrics")).body);
    const audit = JSON.stringify((await daemon.call("GET", "/gpu/audit", undefined, as(CANARY.adminKey))).body);
    const ofBob = receiver.received
      .map((one) => JSON.stringify([one.headers, one.body]))
      .filter((one) => one.includes('"service_name":"other"'));

    const openTo = [...shown, told, metrics, ...ofBob, ...refused.slice(1).map((one) => JSON.stringify(one.body))];
    expect(found([...SECRETS, CANARY.address], openTo)).toEqual([]);
    expect(found([CANARY.data, token], [...shown, told, metrics, ...ofBob])).toEqual([]);
    expect(found([...SECRETS, ...OWN], daemon.log)).toEqual([]);
    expect(found([...SECRETS, ...OWN], [audit])).toEqual([]);

    await daemon.end("SIGTERM");
    const files = readdirSync(daemon.folder).filter((name) => name.startsWith("state.db"));
    const dump = files.map((name) => readFileSync(join(daemon.folder, name), "latin1"));
    expect(found(SECRETS, dump)).toEqual([]);
    // That the dump is one: what is stored on purpose is in it.
    expect(found(OWN, dump)).toEqual(OWN);
  },
);

/** Until the stream's signal ends it. */
async function readWhatComes(answer: Response): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  try {
    for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>)
      text += decoder.decode(chunk, { stream: true });
  } catch {
    // It goes on for as long as its reader likes.
  }
  return text;
}
