/** A database that cannot be written at the start, or that is taken away under the daemon. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, renameSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";

const CONFIG = "storage:\n  path: state.db\nmonitoring:\n  refresh_interval: 500ms\n";
const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

async function started(options: Parameters<typeof startDaemon>[0] = {}): Promise<TestDaemon> {
  const daemon = await startDaemon({ config: CONFIG, ...options });
  onTestFinished(() => void daemon.end("SIGKILL"));
  return daemon;
}

const ready = (daemon: TestDaemon, status: number) =>
  eventually(
    () => daemon.call("GET", "/readyz"),
    (answer) => answer.status === status,
  );

const HARMS: readonly (readonly [string, (file: string) => void])[] = [
  ["deleted", (file) => rmSync(file)],
  [
    "replaced",
    (file) => {
      copyFileSync(file, `${file}.new`);
      renameSync(`${file}.new`, file);
    },
  ],
  ["cut short", (file) => truncateSync(file, 100)],
];

test.skipIf(!isBuilt).for(HARMS)(
  "a database that is %s under the daemon is noticed within a second or so, nothing is granted, and it says what to do",
  async ([words, harm]) => {
    const daemon = await started();
    await ready(daemon, 200);
    expect((await daemon.allocate()).status).toBe(200);
    harm(join(daemon.folder, "state.db"));
    const before = performance.now();
    const { body } = await ready(daemon, 503);
    expect(performance.now() - before).toBeLessThan(3_000);
    expect(JSON.stringify(body)).toContain(words);
    expect(JSON.stringify(body)).toContain("stop the daemon");
    const refused = await daemon.allocate();
    expect(refused.body).toMatchObject({ status: 503, code: "storage-unavailable" });
    expect(refused.body.detail).toContain(words);
    expect((await daemon.call("GET", "/gpu/list")).body.allocations).toHaveLength(1);
  },
);

test.skipIf(!isBuilt || !hasPrlimit)(
  "on a disk that is full at the start the daemon shows what there is, with the keys of its file, and goes on when it can",
  async () => {
    const folder = temporaryFolder();
    const keys = (name: string) =>
      `${CONFIG}auth:\n  enabled: true\n  api_keys:\n    ${name}-key-0123456789: ${name}\n`;
    const as = (name: string) => ({ "X-API-Key": `${name}-key-0123456789` });
    const before = await started({ folder, config: keys("ann") });
    await ready(before, 200);
    expect((await before.call("POST", "/gpu/allocate", { service_name: "svc" }, as("ann"))).status).toBe(200);
    // What a crash leaves is a log that need not be made again on the full disk.
    await before.end("SIGKILL");

    const daemon = await started({ folder, config: keys("bob"), under: ["prlimit", "--fsize=0:"] });
    await ready(daemon, 503);
    expect((await daemon.call("GET", "/gpu/list", undefined, as("ann"))).status).toBe(401);
    const { body } = await daemon.call("GET", "/gpu/list", undefined, as("bob"));
    expect(body.allocations).toHaveLength(1);
    expect((await daemon.call("POST", "/gpu/allocate", { service_name: "b" }, as("bob"))).body.code).toBe(
      "storage-unavailable",
    );
    execFileSync("prlimit", ["--pid", String(daemon.process.pid), "--fsize=unlimited:"]);
    await ready(daemon, 200);
    expect((await daemon.call("POST", "/gpu/allocate", { service_name: "b" }, as("bob"))).status).toBe(200);
  },
);
