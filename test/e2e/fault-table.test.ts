/**
 * What can go wrong with the driver and its GPUs, played over time on one daemon by the verbs that `npm run fake-host`
 * has: each is ungrantable within two readings and the deadline, and grantable within a minute of being well again.
 */
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { FakeHostFolder, type FakeHostState } from "../fake-host/host.ts";
import * as verbs from "../fake-host/verbs.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { Receiver } from "./receiver.ts";

const INTERVAL_MS = 250;
const DEADLINE_MS = 1_000;
const STALE_AFTER_MS = 2_000;
const RECLAIM_MS = 1_500;
/** What the machine under the tests may add. */
const PATIENCE_MS = 4_000;
const SEEN_MS = 2 * INTERVAL_MS + DEADLINE_MS + PATIENCE_MS;
const RECOVERED_MS = 60_000;
const GPUS = 3;

let host: FakeHostFolder;
let daemon: TestDaemon;
let receiver: Receiver;
beforeAll(async () => {
  if (!isBuilt) return;
  const folder = temporaryFolder();
  host = new FakeHostFolder(join(folder, "host"), GPUS);
  receiver = await Receiver.start();
  daemon = await startDaemon({
    folder,
    simulate: null,
    env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
    config: [
      "monitoring:",
      `  nvidia_smi_path: ${JSON.stringify(host.nvidiaSmi)}`,
      `  kernel_log: ${JSON.stringify(host.kernelLog)}`,
      `  refresh_interval: ${INTERVAL_MS}ms`,
      `  timeout: ${DEADLINE_MS}ms`,
      `  stale_after: ${STALE_AFTER_MS}ms`,
      "allocator:",
      `  reclaim_timeout: ${RECLAIM_MS}ms`,
      "  foreign_use: notify",
      `  foreign_use_webhook_url: ${JSON.stringify(receiver.url)}`,
      "",
    ].join("\n"),
  });
});
afterAll(async () => {
  if (!isBuilt) return;
  await daemon.end("SIGKILL");
  await receiver.stop();
  daemon.removeFolder();
});
beforeEach(async () => {
  if (isBuilt) await healed();
});

type Change = (state: FakeHostState) => FakeHostState;
const suffer = (...changes: readonly Change[]) => {
  for (const change of changes) host.change(change);
};

interface ShownGpu {
  readonly id: number;
  readonly uuid: string;
  readonly state: string;
  readonly reason: string | null;
  readonly ailment: { readonly state: string } | null;
}

const status = async () => (await daemon.call("GET", "/gpu/status")).body;
const gpus = async (): Promise<readonly ShownGpu[]> => (await status()).gpus;
/** The state of the GPU that had this index at first, wherever it stands now. */
const stateOf = async (first: number) => (await gpus()).find(({ uuid }) => uuid === uuidOf(first)) as ShownGpu;
const uuidOf = (first: number) => `GPU-5f1d0000-0000-4000-8000-${String(first).padStart(12, "0")}`;

const becomes = (first: number, state: string, withinMs = SEEN_MS) =>
  eventually(
    () => stateOf(first),
    (gpu) => gpu.state === state,
    withinMs,
  );

/** How many GPUs one request could have now. */
async function grantable(): Promise<number> {
  for (let n = GPUS; n > 0; n--) {
    const plan = await daemon.call("POST", "/gpu/plan", { service_name: "asker", required_gpus: n, queue: false });
    if (plan.body.outcome === "granted") return n;
  }
  return 0;
}

async function healed(): Promise<void> {
  suffer(verbs.heal);
  await eventually(grantable, (n) => n === GPUS, RECOVERED_MS);
}

const lease = (first: number, more: object = {}) =>
  daemon.allocate({ preferred_gpus: [uuidOf(first)], ttl: "1h", webhook_url: `${receiver.url}/lease`, ...more });
const recordOf = async (id: string) => (await daemon.call("GET", `/gpu/allocations/${id}`)).body;

describe.skipIf(!isBuilt)("what is done about each fault (needs the built program)", () => {
  test("a probe that hangs: unknown once the last reading is old; leases stay, and metrics tell", async () => {
    const { body } = await lease(0);
    suffer(verbs.stubborn);
    const shown = await eventually(
      async () => (await gpus()).filter(({ id }) => id > 0),
      (others) => others.every(({ state }) => state === "unknown"),
      STALE_AFTER_MS + SEEN_MS,
    );
    expect(shown[0]?.reason).toMatch(/did not answer within 1000 ms/);
    expect((await daemon.allocate({ queue: false })).body.code).toBe("gpus-unavailable");
    expect((await recordOf(body.id)).status).toBe("leased");
    expect((await daemon.call("GET", "/metrics")).body).toMatch(
      /gpu_orchestrator_monitor_probe_failures_total\{[^}]*timeout[^}]*\} [1-9]/,
    );
    suffer(verbs.heal);
    await eventually(grantable, (n) => n === GPUS - 1, RECOVERED_MS);
    await daemon.release(body.id);
  });

  test("exit code 14: a warning, and the output counts", async () => {
    suffer(verbs.exit(14));
    const { monitor } = await eventually(status, ({ monitor }) => monitor.warnings.length > 0, SEEN_MS);
    expect(monitor).toMatchObject({ healthy: true, warnings: [expect.stringContaining("infoROM is corrupted")] });
    expect(await grantable()).toBe(GPUS);
  });

  test("exit code 15: that GPU is lost, and the others go on", async () => {
    suffer(verbs.spoil(1));
    // Of the lost one nothing is known for sure until it has been missing for long enough.
    await eventually(grantable, (n) => n === GPUS - 1, SEEN_MS);
    await becomes(1, "lost");
    expect((await stateOf(0)).state).toBe("free");
  });

  test.each([9, 12, 18])("exit code %i: all are unknown at once, and the reason is shown", async (code) => {
    suffer(verbs.exit(code));
    const shown = await eventually(gpus, (all) => all.every(({ state }) => state === "unknown"), SEEN_MS);
    expect(shown[0]?.reason).toMatch(new RegExp(`exited with ${code}`));
    expect((await daemon.call("GET", "/readyz")).status).toBe(503);
  });

  test("another exit code, and output that breaks off or is rubbish: tried again, and the last reading counts until it is old", async () => {
    const { smiDocument } = await import("../fixtures/nvidia-smi-document.ts");
    const whole = smiDocument({ gpus: host.state.gpus.map(({ shows }) => shows) });
    for (const change of [verbs.exit(255), verbs.truncate(whole), verbs.garble, verbs.crash]) {
      suffer(change);
      const { monitor, gpus: shown } = await eventually(status, ({ monitor }) => !monitor.healthy, SEEN_MS);
      expect(monitor.failure.kind).toMatch(/^(exit|garbled)$/);
      // Never fewer than before.
      expect(shown).toHaveLength(GPUS);
      await healed();
    }
  });

  test("a GPU missing from good readings: unknown at once, then lost; its lease is flagged; back after three good readings", async () => {
    const { body } = await lease(1);
    suffer(verbs.vanish(1));
    await eventually(
      () => stateOf(1),
      ({ ailment }) => ailment !== null,
      SEEN_MS,
    );
    const flagged = await eventually(
      () => recordOf(body.id),
      ({ ailing_gpus }) => ailing_gpus[0]?.state === "lost",
      SEEN_MS,
    );
    expect(flagged.status).toBe("leased");
    await daemon.release(body.id);
    expect(await grantable()).toBe(GPUS - 1);
    suffer(verbs.heal);
    await becomes(1, "recovering", RECOVERED_MS);
    await becomes(1, "free", RECOVERED_MS);
  });

  test("indices change: leases follow their GPUs", async () => {
    const { body } = await lease(0);
    suffer(verbs.renumber);
    const moved = await eventually(
      () => stateOf(0),
      ({ id }) => id === GPUS - 1,
      SEEN_MS,
    );
    expect(moved.state).toBe("leased");
    expect((await recordOf(body.id)).gpu_uuids).toEqual([uuidOf(0)]);
    await daemon.release(body.id);
    for (let i = 1; i < GPUS; i++) suffer(verbs.renumber);
  });

  test.each([
    ["uncorrected memory errors", "degraded", verbs.ecc(1)],
    ["a row remapping that waits", "degraded", verbs.remap(1, "pending")],
    ["a row remapping that failed", "unhealthy", verbs.remap(1, "failure")],
    ["a reset that the driver asks for", "unhealthy", verbs.reset(1)],
    ["a loss that the driver tells of", "lost", verbs.lose(1)],
  ])("%s: %s, no new lease, and the one that is there goes on", async (_fault, state, change) => {
    const { body } = await lease(1);
    suffer(change);
    await eventually(
      () => stateOf(1),
      ({ ailment }) => ailment?.state === state,
      SEEN_MS,
    );
    expect(await recordOf(body.id)).toMatchObject({ status: "leased", ailing_gpus: [{ state }] });
    await daemon.release(body.id);
    await becomes(1, state);
    expect(await grantable()).toBe(GPUS - 1);
  });

  test("heat: avoided while others are free, and no lease ends", async () => {
    const { body } = await lease(0);
    suffer(verbs.heat(0));
    await eventually(status, ({ gpus: shown }) => shown[0].health.slowdown === true, SEEN_MS);
    expect((await recordOf(body.id)).status).toBe("leased");
    await daemon.release(body.id);
    const plan = await daemon.call("POST", "/gpu/plan", { service_name: "asker", required_gpus: GPUS - 1 });
    expect(plan.body.gpu_uuids).not.toContain(uuidOf(0));
    expect(await grantable()).toBe(GPUS);
  });

  test("a process of no lease: occupied, its operator told once, and clear again by itself", async () => {
    const told = receiver.received.length;
    suffer(verbs.use(2, { pid: 2 ** 22 + 7, mb: 3_000, type: "C", name: "notebook" }));
    const { reason } = await becomes(2, "occupied");
    expect(reason).toContain("notebook");
    expect(await grantable()).toBe(GPUS - 1);
    const statuses = () => receiver.received.slice(told).map(({ body }) => body.status);
    await eventually(
      async () => statuses(),
      (all) => all.length > 0,
      SEEN_MS,
    );
    suffer(verbs.leave(2));
    await becomes(2, "free");
    await eventually(
      async () => statuses(),
      (all) => all.length > 1,
      SEEN_MS,
    );
    expect(statuses()).toEqual(["foreign_use", "foreign_use_over"]);
  });

  test("memory still in use after a lease: reclaiming, then quarantined, and free with the first reading that shows it gone", async () => {
    const { body } = await lease(1);
    suffer(verbs.fill(1, 6_000));
    await eventually(status, ({ gpus: shown }) => shown[1].memory_used === 6_000, SEEN_MS);
    await daemon.release(body.id);
    expect((await stateOf(1)).state).toBe("reclaiming");
    expect(await grantable()).toBe(GPUS - 1);
    await becomes(1, "quarantined", RECLAIM_MS + SEEN_MS);
    suffer(verbs.leave(1));
    await becomes(1, "free");
  });

  test("100 % busy for nobody: granted to nobody at once, then quarantined", async () => {
    suffer(verbs.ghost(0));
    await eventually(
      () => stateOf(0),
      ({ state }) => state !== "free",
      SEEN_MS,
    );
    const { reason } = await becomes(0, "quarantined");
    expect(reason).toMatch(/100 % busy/);
  });

  test("an Xid error after which a reset is due: quarantined, until an admin says that it was reset", async () => {
    verbs.xid(host, 79, 2);
    await becomes(2, "quarantined");
    expect(await grantable()).toBe(GPUS - 1);
    await daemon.call("POST", `/gpu/gpus/${uuidOf(2)}/clear-quarantine`, { reason: "reseated" });
    expect((await stateOf(2)).state).toBe("free");
  });
});
