/** The built program's `backup` and `restore`, beside a daemon that works meanwhile. */
import { renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { type DaemonOptions, eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { runProgram } from "./program.ts";
import { Receiver } from "./receiver.ts";

const CLIENTS = 8;
const LEASES_EACH_SIDE = 50;
// Released GPUs are free at once: many leases in a short time.
const CONFIG = "allocator:\n  verify_release: never\nstorage:\n  path: state.db\nscheduler:\n  max_queue_size: 10000\n";

async function serve(options: DaemonOptions): Promise<TestDaemon> {
  const daemon = await startDaemon(options);
  onTestFinished(async () => {
    await daemon.end("SIGKILL");
  });
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  return daemon;
}

function folderForTest(): string {
  const folder = temporaryFolder();
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const settings = (folder: string) => ["--config", join(folder, "config.yaml")];
const backUp = (folder: string, file: string) => runProgram(["backup", file, ...settings(folder)], { cwd: folder });
const restore = (folder: string, file: string) => runProgram(["restore", file, ...settings(folder)], { cwd: folder });

/** A grant that a client was told of, and its end, in steps of a count of all that was told. */
interface Told {
  readonly id: string;
  readonly token: number;
  readonly granted: number;
  ended: number;
}

/** Clients that lease and release until told to stop; what they were told, in order. */
function load(daemon: TestDaemon) {
  const told: Told[] = [];
  const state = { steps: 0, stopped: false };
  const client = async (i: number) => {
    while (!state.stopped) {
      const { status, body } = await daemon.allocate({ service_name: `client-${i}`, queue: false });
      if (status !== 200) continue;
      const lease: Told = {
        id: body.id,
        token: body.fencing_token,
        granted: ++state.steps,
        ended: Number.POSITIVE_INFINITY,
      };
      told.push(lease);
      // One in five is left to hold its GPU for a while.
      if (lease.granted % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 100));
      expect((await daemon.release(lease.id)).status).toBe(200);
      lease.ended = ++state.steps;
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)));
  const stop = async () => {
    state.stopped = true;
    await clients;
    return told;
  };
  return { state, stop };
}

async function freshToken(daemon: TestDaemon): Promise<number> {
  const { body } = await daemon.call("GET", "/gpu/list");
  for (const { id } of body.allocations) await daemon.release(id);
  const granted = await eventually(
    () => daemon.allocate({ queue: false }),
    ({ status }) => status === 200,
  );
  return granted.body.fencing_token;
}

test.skipIf(!isBuilt)(
  "a backup made under load and restored: all that was answered before it is there, what came after is unknown, and tokens only grow (needs the built program)",
  { timeout: 120_000 },
  async () => {
    const folder = folderForTest();
    const daemon = await serve({ folder, config: CONFIG });
    const { state, stop } = load(daemon);
    const steps = (least: number) =>
      eventually(
        async () => state.steps,
        (count) => count > least,
        30_000,
      );
    await steps(3 * LEASES_EACH_SIDE);
    const begun = state.steps;
    const made = await backUp(folder, "copy.db");
    expect(made).toMatchObject({
      end: 0,
      stderr: "",
      stdout: expect.stringMatching(/state\.db is backed up to .*copy\.db \(/),
    });
    const done = state.steps;
    expect(done, "the daemon went on meanwhile").toBeGreaterThan(begun);
    await steps(done + 3 * LEASES_EACH_SIDE);
    const told = await stop();
    expect((await restore(folder, "copy.db")).stderr).toMatch(
      /state\.db is in use by a gpu-orchestrator: stop it first/,
    );
    await daemon.end("SIGKILL");

    const restored = await restore(folder, "copy.db");
    expect(restored.stderr).toBe("");
    expect(restored.stdout).toMatch(
      /state\.db is as it was at \S+Z, with \d leases and 0 waiting requests\n.* kept as .*state\.db\.replaced-/,
    );
    const again = await serve({ folder, config: CONFIG });
    const counts = { before: 0, after: 0 };
    for (const { id, granted, ended } of told) {
      const { status, body } = await again.call("GET", `/gpu/allocations/${id}`);
      if (granted <= begun) {
        counts.before += 1;
        expect(status, `${id} was granted before the backup`).toBe(200);
        if (ended <= begun) expect(body.status, `${id} was released before the backup`).toBe("ended");
        if (ended > done + CLIENTS) expect(body.status, `${id} was released after the backup`).toBe("leased");
      } else if (granted > done + CLIENTS) {
        counts.after += 1;
        expect(status, `${id} was granted after the backup`).toBe(404);
        expect((await again.call("POST", `/gpu/allocations/${id}/renew`)).status).toBe(404);
      }
    }
    expect(Math.min(counts.before, counts.after)).toBeGreaterThan(LEASES_EACH_SIDE);
    const highest = Math.max(...told.map(({ token }) => token));
    const first = await freshToken(again);
    expect(first).toBeGreaterThan(highest);
    await again.end("SIGTERM");

    // Also where there is nothing left that knows which were given: the wall clock does.
    for (const name of ["state.db", "state.db-wal", "state.db-shm"]) rmSync(join(folder, name), { force: true });
    expect(await restore(folder, "copy.db")).toMatchObject({ end: 0, stderr: "" });
    expect(await freshToken(await serve({ folder, config: CONFIG }))).toBeGreaterThan(first);
  },
);

test.skipIf(!isBuilt)(
  "a webhook that the backup still had to send is sent after the restore, though it was delivered in between (needs the built program)",
  { timeout: 120_000 },
  async () => {
    const folder = folderForTest();
    const receiver = await Receiver.start();
    onTestFinished(() => receiver.stop());
    const hooks = () => receiver.received.map(({ headers }) => headers["webhook-id"]);
    const options = { folder, config: CONFIG, simulate: "t4x1" };
    const daemon = await serve(options);
    receiver.status = 500;
    const holder = await daemon.allocate({ service_name: "holder" });
    const waiting = await daemon.allocate({ service_name: "waiting", webhook_url: receiver.url });
    expect(waiting.status).toBe(202);
    await daemon.release(holder.body.id);
    await eventually(
      async () => hooks(),
      ({ length }) => length > 0,
    );
    expect((await backUp(folder, "copy.db")).end).toBe(0);
    receiver.status = 200;
    await eventually(
      () => daemon.call("GET", "/gpu/list"),
      ({ body }) => body.allocations[0]?.status === "leased",
      30_000,
    );
    await daemon.end("SIGTERM");

    const sent = hooks().length;
    expect((await restore(folder, "copy.db")).stdout).toMatch(/1 leases and 0 waiting/);
    await serve(options);
    await eventually(
      async () => hooks().length,
      (length) => length > sent,
      30_000,
    );
    expect(receiver.received[sent]?.body).toMatchObject({ status: "allocated", request_id: waiting.body.id });
    expect(new Set(hooks()).size).toBe(1);
  },
);

test.skipIf(!isBuilt)(
  "a GPU that was leased after the backup and is in use is not granted after the restore (needs the built program)",
  { timeout: 120_000 },
  async () => {
    const folder = folderForTest();
    using smi = new FakeNvidiaSmi();
    const show = (...gpus: SmiGpu[]) => smi.tell({ mode: "text", text: smiDocument({ gpus }) });
    show({}, {});
    const monitoring = `monitoring:\n  nvidia_smi_path: ${JSON.stringify(smi.path)}\n  refresh_interval: 500ms\n`;
    const options = {
      folder,
      config: CONFIG + monitoring,
      simulate: null,
      env: { PATH: `${join(process.execPath, "..")}:${process.env.PATH}` },
    };
    const daemon = await serve(options);
    expect((await backUp(folder, "copy.db")).end).toBe(0);
    const lease = await daemon.allocate({ service_name: "trainer", preferred_gpus: ["0"] });
    expect(lease.body.gpu_ids).toEqual([0]);
    await daemon.end("SIGTERM");
    show({ processes: [{ pid: 4711, type: "C", name: "python", usedMemoryMib: 900 }] }, {});

    expect((await restore(folder, "copy.db")).end).toBe(0);
    const again = await serve(options);
    expect((await again.call("POST", `/gpu/allocations/${lease.body.id}/renew`)).status).toBe(404);
    const { body } = await again.call("GET", "/gpu/status");
    expect(body.gpus[0]).toMatchObject({
      allocated: false,
      state: "occupied",
      reason: expect.stringContaining("4711"),
    });
    expect((await again.allocate({ queue: false })).body.gpu_ids).toEqual([1]);
    expect((await again.allocate({ queue: false })).body.code).toBe("no-gpu-free");
  },
);

test.skipIf(!isBuilt)(
  "what was replaced is the way back: the kept database is restored like a backup (needs the built program)",
  { timeout: 60_000 },
  async () => {
    const folder = folderForTest();
    const daemon = await serve({ folder, config: CONFIG });
    expect((await backUp(folder, "copy.db")).end).toBe(0);
    const lease = await daemon.allocate();
    await daemon.end("SIGKILL");
    const { stdout } = await restore(folder, "copy.db");
    const kept = /kept as (\S+)/.exec(stdout)?.[1] ?? "";
    renameSync(kept, join(folder, "was.db"));
    expect((await restore(folder, "was.db")).stdout).toMatch(/with 1 leases/);
    const again = await serve({ folder, config: CONFIG });
    expect((await again.call("GET", `/gpu/allocations/${lease.body.id}`)).body.status).toBe("leased");
  },
);
