/**
 * Twenty hostile clients at once, and one that only wants GPUs. `npm run test:siege` takes five minutes for it.
 *
 * The attackers are a process of their own, niced, so that what is measured is the daemon and not their hunger. On a
 * machine that others keep busy, how long a call takes is theirs to say: there it is printed and not judged.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { availableParallelism, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon } from "../e2e/daemon.ts";

const SECONDS = Number(process.env.SIEGE_SECONDS ?? 60);
const HOSTILE = fileURLToPath(new URL("./hostile.ts", import.meta.url));
/** Of its own: the program's text, some 60 MiB, is a file's, which the kernel drops before anything else. */
const MAX_OWN_MIB = 512;
const LOOK_MS = 100;
/** Or five times what the same calls take alone, on a machine that is busy with other things. */
const MAX_P99_MS = 250;

const EVES = ["a", "b", "c", "d", "e"].map((name) => `eve-${name}-key-0123456789`);
const HONEST = { "X-API-Key": "ann-key-0123456789ab" };
const CONFIG = `
auth:
  enabled: true
  api_keys:
    ann-key-0123456789ab: ann
${EVES.map((key) => `    ${key}: {principal: ${key.slice(0, 5)}, quotas: {max_gpus: 1}}`).join("\n")}
scheduler:
  cleanup_interval: 500ms
  reserve_after: 1h
`;

interface Tally {
  readonly times: number[];
  grants: number;
}

/** Allocates, renews, reads and releases until `until`, and notes how long each call took. */
async function live(daemon: TestDaemon, until: number, tally: Tally): Promise<void> {
  const timed = async (method: string, path: string, body?: object) => {
    const before = performance.now();
    const answer = await daemon.call(method, path, body, HONEST);
    tally.times.push(performance.now() - before);
    return answer;
  };
  while (Date.now() < until) {
    const { status, body } = await timed("POST", "/gpu/allocate", { service_name: "honest", ttl: "1h", priority: 9 });
    expect([status, body.status]).toEqual([200, "allocated"]);
    tally.grants++;
    const path = `/gpu/allocations/${body.id}`;
    expect((await timed("POST", `${path}/renew`, {})).status).toBe(200);
    expect((await timed("GET", path)).body).toMatchObject({ status: "leased", id: body.id });
    expect((await timed("DELETE", path)).body).toMatchObject({ status: "ended" });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const p99 = (times: readonly number[]) => times.toSorted((x, y) => x - y)[Math.floor(times.length * 0.99)] as number;

function ownMib({ process: { pid } }: TestDaemon): number {
  const own = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(own) / 1_024;
}

test.skipIf(!isBuilt)(
  `for ${SECONDS} s of twenty hostile clients an honest one is served in time, loses no grant and gets its webhooks`,
  async () => {
    const daemon = await startDaemon({ config: CONFIG });
    onTestFinished(() => void daemon.end("SIGKILL"));
    await eventually(
      () => daemon.call("GET", "/readyz"),
      ({ status }) => status === 200,
    );
    // The attackers take a core, and this process most of another: only what the others leave idle can be judged.
    const isQuiet = (loadavg()[0] as number) < availableParallelism() / 2;
    const alone: Tally = { times: [], grants: 0 };
    await live(daemon, Date.now() + 4_000, alone);

    const told = new Set<string>();
    const receiver = createServer((req, res) => {
      let text = "";
      req.on("data", (chunk) => {
        text += chunk;
      });
      req.on("end", () => {
        told.add(JSON.parse(text).request_id);
        res.end();
      });
    }).listen(0, "127.0.0.1");
    await once(receiver, "listening");
    onTestFinished(() => void receiver.close());
    const hook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;

    const args = ["-n", "19", process.execPath, "--disable-warning=ExperimentalWarning", HOSTILE, daemon.url];
    const hostile = spawn("nice", [...args, String(SECONDS), ...EVES], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void hostile.kill("SIGKILL"));
    let report = "";
    hostile.stdout.on("data", (chunk) => {
      report += chunk;
    });
    const gone = once(hostile, "exit");
    let peakMib = 0;
    const looks = setInterval(() => {
      peakMib = Math.max(peakMib, ownMib(daemon));
    }, LOOK_MS);
    onTestFinished(() => clearInterval(looks));

    const besieged: Tally = { times: [], grants: 0 };
    const end = Date.now() + SECONDS * 1_000;
    const expiring: string[] = [];
    const notified = (async () => {
      while (Date.now() < end - 5_000) {
        const asked = { service_name: "told", ttl: 1, webhook_url: hook, priority: 9 };
        const { body } = await daemon.call("POST", "/gpu/allocate", asked, HONEST);
        expiring.push(body.id);
        await new Promise((resolve) => setTimeout(resolve, 2_000));
      }
    })();
    await Promise.all([live(daemon, end, besieged), notified, gone]);
    await eventually(
      async () => expiring.filter((id) => !told.has(id)),
      (missing) => missing.length === 0,
      30_000,
    );

    const figures = {
      p99AloneMs: Math.round(p99(alone.times)),
      p99Ms: Math.round(p99(besieged.times)),
      grants: besieged.grants,
      webhooks: expiring.length,
      judgedByTime: isQuiet,
      peakMib: Math.round(peakMib),
      attacks: JSON.parse(report),
    };
    process.stdout.write(`siege: ${JSON.stringify(figures)}\n`);
    for (const attack of ["pipelines", "connections", "guesses", "requests", "streams", "calls", "rubbish"]) {
      expect(figures.attacks[attack], attack).toBeGreaterThan(0);
    }
    expect(figures.grants).toBeGreaterThan(0);
    if (isQuiet) expect(figures.p99Ms).toBeLessThan(Math.max(MAX_P99_MS, 5 * figures.p99AloneMs));
    expect(figures.peakMib).toBeGreaterThan(0);
    expect(figures.peakMib).toBeLessThan(MAX_OWN_MIB);
  },
  (SECONDS + 120) * 1_000,
);
