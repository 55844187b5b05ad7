/** The verbs of a client, by the built program against a daemon. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { runProgram, startProgram } from "./program.ts";
import { Receiver } from "./receiver.ts";

const KEYS =
  "auth:\n  enabled: true\n  api_keys:\n    admin-key: {principal: ada, role: admin}\n    reader-key: {principal: rob, role: read}\n";

describe.skipIf(!isBuilt)("the verbs of a client", () => {
  let daemon: TestDaemon;
  let held: string;
  let unheld: string;
  let waiting: string;

  const gpuo = (args: readonly string[], env: Record<string, string> = {}) =>
    runProgram(args, { cwd: daemon.folder, env: { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder, ...env } });

  beforeAll(async () => {
    daemon = await startDaemon();
    const { body } = await daemon.allocate({ required_gpus: 7, max_duration: "1h", ttl: "1h" });
    held = body.id;
    unheld = String([0, 1, 2, 3, 4, 5, 6, 7].find((index) => !body.gpu_ids.includes(index)));
    const webhook = "http://127.0.0.1:9/never";
    waiting = (await daemon.allocate({ service_name: "waiter", required_gpus: 3, webhook_url: webhook })).body.id;
  });

  afterAll(async () => {
    await daemon.end();
    daemon.removeFolder();
  });

  test.each([
    ["status", "7 leased GPUs", (text: string) => (text.match(/leased/g) ?? []).length >= 7],
    ["queue", "who waits", (text: string) => text.includes(waiting)],
    ["leases", "who holds", (text: string) => text.includes(held)],
  ])("%s shows %s, within 100 columns and without escapes", async (verb, _what, shows) => {
    const { end, stdout, stderr } = await gpuo([verb]);
    expect([end, stderr]).toEqual([0, ""]);
    expect(shows(stdout)).toBe(true);
    expect(stdout).not.toContain("\x1b");
    for (const line of stdout.split("\n")) expect([...line].length).toBeLessThanOrEqual(100);
  });

  test("what every verb takes may stand before it", async () => {
    const { end, stdout } = await gpuo(["--json", "--url", daemon.url, "-q", "leases"], { GPU_ORCHESTRATOR_URL: "" });
    expect([end, JSON.parse(stdout).id]).toEqual([0, held]);
    expect((await gpuo(["--url", "http://127.0.0.1:9", "status"])).end).toBe(69);
    expect((await gpuo(["--url", daemon.url])).end).toBe(64);
    expect((await gpuo(["--host=nobody", "run", "--", "true"])).end).toBe(125);
  });

  test("--json gives what the API gives, one line an object", async () => {
    const { stdout } = await gpuo(["leases", "--json"]);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ id, gpu_ids }) => [id, gpu_ids.length])).toEqual([[held, 7]]);
  });

  test("an allocation is named by any beginning that no other has, a GPU by its index", async () => {
    expect((await gpuo(["show", held.slice(0, 24)])).stdout).toContain(held);
    const free = JSON.parse((await gpuo(["show", unheld, "--json"])).stdout);
    expect([free.id, free.state]).toEqual([Number(unheld), "free"]);
    const none = await gpuo(["show", "nothing-like-it"]);
    expect(none.end).toBe(1);
    expect(none.stderr).toContain(held);
    expect(none.stderr).toContain("0 (GPU-");
    const uuid = free.uuid.slice("GPU-".length, -1);
    expect(JSON.parse((await gpuo(["show", uuid, "--json"])).stdout).uuid).toBe(free.uuid);
    expect((await gpuo(["cordon", "9", "--reason", "there is none"])).end).toBe(1);
  });

  test("why says in words why a request waits, why a lease was granted and what a GPU is", async () => {
    const { stdout } = await gpuo(["why", waiting]);
    expect(stdout).toContain("at 1 of 1");
    expect(stdout).toMatch(/^GPU [0-9,]{13}: leased$/m);
    expect(stdout).toContain(`GPU ${unheld}: `);
    expect((await gpuo(["why", held])).stdout).toContain("at once, since they were free");
    expect((await gpuo(["why", unheld])).stdout).toContain("is free: it can be granted");
  });

  test("release --mine ends what the caller's principal has", async () => {
    const other = await startDaemon({ config: KEYS });
    const env = { GPU_ORCHESTRATOR_URL: other.url, GPU_ORCHESTRATOR_API_KEY: "admin-key" };
    await gpuo(["allocate", "-g", "2", "--name", "own"], env);
    expect((await gpuo(["release", "--mine"], env)).stderr).toMatch(/own-\S+: released/);
    expect((await gpuo(["release", "--mine"], env)).stderr).toContain("nothing of yours");
    expect((await gpuo(["history", "--mine"], env)).stdout).toContain("own");
    const reader = { ...env, GPU_ORCHESTRATOR_API_KEY: "reader-key" };
    expect((await gpuo(["history", "--mine"], reader)).stdout).toBe("nothing has ended yet\n");
    expect((await gpuo(["pause-queue", "--reason", "x"], env)).stderr).toContain("the queue is paused");
    expect((await gpuo(["pause-queue", "--reason", "x"], env)).end).toBe(64);
    const refused = "nothing is granted, as the host is drained by ada: x";
    for (const asked of [
      ["allocate", "--no-queue"],
      ["run", "--no-wait", "--", "true"],
    ])
      expect(await gpuo(asked, env)).toMatchObject({ end: 75, stderr: expect.stringContaining(refused) });
    expect((await gpuo(["status"], env)).stdout).toMatch(/^the host is drained by ada for \d+s: x$/m);
    expect((await gpuo(["resume-queue", "--reason", "x"], env)).stderr).toContain("the queue goes on");
    expect((await gpuo(["drain", "--reason", "x", "--deadline", "2h"], env)).end).toBe(0);
    expect((await gpuo(["resume-queue", "--reason", "x"], env)).stderr).toContain(
      "gpuo undrain --reason ... takes that back",
    );
    await other.end();
    other.removeFolder();
  });

  test("where nobody says who calls, release --mine takes nothing from anybody", async () => {
    const { end, stderr } = await gpuo(["release", "--mine"]);
    expect([end, stderr]).toEqual([64, expect.stringContaining("does not know what is yours")]);
    expect((await daemon.call("GET", `/gpu/allocations/${held}`)).body.status).toBe("leased");
  });

  test("reserve keeps GPUs from a time for a while, reservations shows it and gives it up", async () => {
    const said = ["--from", "tomorrow 14:00", "--for", "2h"];
    expect((await gpuo(["reserve", "-g", "1", ...said])).stderr).toContain("name the service_name");
    const { end, stdout, stderr } = await gpuo(["reserve", "-g", "1", ...said, "--name", "demo"]);
    expect([end, stderr]).toEqual([0, expect.stringMatching(/1 GPU from \S+ 14:00 to \S+ 16:00, for demo\n$/)]);
    const id = stdout.trim();
    const listed = await gpuo(["reservations"]);
    expect(listed.stdout).toContain("to come");
    expect(JSON.parse((await gpuo(["reservations", "--json"])).stdout)).toMatchObject({ id, gpus: 1, open: false });
    expect((await gpuo(["reserve", "-g", "9", ...said, "--name", "demo"])).end).toBe(1);
    expect((await gpuo(["reserve", "-g", "1"])).end).toBe(64);
    const until = await gpuo(["reserve", "--from", "tomorrow 18:00", "--to", "19:00", "--name", "demo"]);
    expect(until.stderr).toMatch(/1 GPU from \S+ 18:00 to \S+ 19:00, for demo\n$/);
    await gpuo(["reservations", "cancel", until.stdout.trim()]);
    const shortest = await gpuo(["reserve", "--for", "1m", "--name", "demo"]);
    expect(shortest.end).toBe(0);
    await gpuo(["reservations", "cancel", shortest.stdout.trim()]);
    expect((await gpuo(["reservations", "cancel", id.slice(0, 30)])).stderr).toContain("given up");
    expect((await gpuo(["reservations"])).stdout).toBe("nothing is reserved\n");
  });

  test("allocate --export waits and prints what a shell takes; release gives it back", async () => {
    const { end, stdout } = await gpuo([
      "allocate",
      "-g",
      "1",
      "--max-duration",
      "2h",
      "--name",
      "exporter",
      "--export",
    ]);
    expect(end).toBe(0);
    expect(stdout).toMatch(/^export CUDA_VISIBLE_DEVICES=GPU-[0-9a-f-]+$/m);
    const id = /^export GPU_ORCHESTRATOR_ALLOCATION_ID=(\S+)$/m.exec(stdout)?.[1] ?? "";
    expect(await gpuo(["release", id])).toMatchObject({ end: 0, stdout: "", stderr: `gpuo: ${id}: released\n` });
    expect((await daemon.call("GET", `/gpu/allocations/${id}`)).body.status).toBe("ended");
  });

  test("nudge sends a holder a message, once a minute", async () => {
    const { end, stderr } = await gpuo(["nudge", held, "-m", "done by six?"]);
    expect([end, stderr]).toEqual([0, expect.stringMatching(/^gpuo: told svc .*holds GPU/)]);
    expect((await daemon.call("GET", `/gpu/allocations/${held}`)).body.nudge.message).toBe("done by six?");
    expect((await gpuo(["events", "--type", "nudged"])).stdout).toContain("message=done by six?");
    const again = await gpuo(["nudge", held, "-m", "and now?"]);
    expect([again.end, again.stderr]).toEqual([75, expect.stringContaining("try again in")]);
    expect((await gpuo(["nudge", waiting, "-m", "x"])).end).toBe(1);
    expect((await gpuo(["nudge", held])).end).toBe(64);
  });

  test("webhooks test sends one that tells of nothing, and says what came of it", async () => {
    const receiver = await Receiver.start();
    const taken = await gpuo(["webhooks", "test", receiver.url]);
    expect([taken.end, taken.stdout]).toEqual([0, expect.stringMatching(/^delivered, 200 after \d+ ms/)]);
    expect(receiver.received.map(({ body }) => body.status)).toEqual(["test"]);
    receiver.status = 500;
    const refused = await gpuo(["webhooks", "test", receiver.url]);
    expect([refused.end, refused.stdout]).toEqual([1, expect.stringContaining("the receiver answered 500")]);
    expect(receiver.received).toHaveLength(2);
    expect((await gpuo(["webhooks", "test"])).end).toBe(64);
    await receiver.stop();
  });

  test("extend lets a lease last so long from now", async () => {
    const { stderr, end } = await gpuo(["extend", held, "2h"]);
    expect([end, stderr]).toEqual([0, expect.stringMatching(/lasts until .*, and with renewals until /)]);
    const { body } = await daemon.call("GET", `/gpu/allocations/${held}`);
    expect(body.max_duration_seconds).toBeGreaterThanOrEqual(7_200);
    expect((await gpuo(["extend", waiting, "2h"])).end).toBe(0);
    expect(await gpuo(["extend", held, "soon"])).toMatchObject({ end: 64 });
  });

  test("plan says what would come of it and changes nothing", async () => {
    const { stdout, end } = await gpuo(["plan", "-g", "8"]);
    expect([end, stdout.split("\n")[0]]).toEqual([0, expect.stringContaining("would be queued at 2")]);
    expect(await gpuo(["plan", "-g", "9"])).toMatchObject({ end: 1 });
  });

  test.each([
    [["history", "--limit", "0"], "--limit 0: expected a whole number from 1 to 1000"],
    [["webhooks", "list", "--limit", "x"], "--limit x: expected"],
    [["webhooks", "show"], "which? gpuo webhooks show ID"],
    [["allocate", "--priority", "11"], "--priority 11: expected a whole number from 1 to 10"],
    [["adopt", "0", "--service", "s", "--pid", "x", "--reason", "y"], "--pid x: expected"],
    [["usage", "--from", "2026-13-45"], "--from 2026-13-45: expected a time such as"],
    [["events", "--type", "grantd"], "there is no such type; did you mean granted?; there are "],
    [["keys", "create", "bob", "--expires", "tomorrow", "--url", "http://127.0.0.1:9"], "expected a day such as"],
    [["logs", "x", "--stream", "both of them"], "expected stdout, stderr or both"],
    [["cluster", "workloads", "show"], "expected ls, get, why, events or rm"],
  ])("%j is a call that makes no sense, and says what would", async (args, words) => {
    expect(await gpuo(args)).toMatchObject({ end: 64, stdout: "", stderr: expect.stringContaining(words) });
  });

  test("a GPU that there is not is named together with those that there are", async () => {
    const { end, stderr } = await gpuo(["allocate", "--gpu", "99"]);
    expect([end, stderr]).toEqual([1, expect.stringContaining('no GPU "99"; there are 0 (GPU-')]);
    const run = await gpuo(["run", "--gpu", "99", "--", "true"]);
    expect([run.end, run.stderr]).toEqual([125, expect.stringContaining('no GPU "99"; there are 0 (GPU-')]);
  });

  test("a daemon that runs no work says so, and waiting would not help", async () => {
    expect(await gpuo(["ps"])).toMatchObject({ end: 1, stderr: expect.stringContaining("docs/work.md") });
    expect(await gpuo(["wait", "task-of-nobody"])).toMatchObject({ end: 1, stderr: expect.stringContaining(held) });
  });

  test("who looks for a controller where there is none is told where that would be", async () => {
    const { end, stderr } = await gpuo(["cluster", "workloads", "ls", "--url", "http://127.0.0.1:9"]);
    expect([end, stderr]).toEqual([69, expect.stringContaining("GPU_ORCHESTRATOR_CONTROLLER_URL")]);
  });

  test("help is there of what is within a verb, and says what was probably meant", async () => {
    expect((await gpuo(["help", "cluster", "apply"])).stdout).toMatch(/^Example: gpuo cluster apply/);
    expect(await gpuo(["help", "statsu"])).toMatchObject({ end: 64, stderr: expect.stringContaining("mean status?") });
  });

  test("cancel ends what waits, and nothing that is held", async () => {
    const { body } = await daemon.allocate({ service_name: "passing", required_gpus: 8 });
    expect((await gpuo(["cancel", body.id])).end).toBe(0);
    expect((await daemon.call("GET", `/gpu/allocations/${body.id}`)).body.end_reason).toBe("cancelled");
    expect(await gpuo(["cancel", held])).toMatchObject({ end: 1, stderr: expect.stringContaining("gpuo release") });
  });

  test("a GPU is cordoned for a reason, which is shown with it", async () => {
    expect((await gpuo(["cordon", unheld])).end).toBe(64);
    expect((await gpuo(["cordon", unheld, "--reason", "loud fan"])).end).toBe(0);
    expect((await gpuo(["status"])).stdout).toMatch(/cordoned.*loud fan/);
    expect((await gpuo(["uncordon", unheld, "--reason", "new fan"])).stderr).toMatch(/^gpuo: uncordon: GPU-/);
    expect((await gpuo(["undrain", unheld, "--reason", "new fan"])).stderr).toMatch(/^gpuo: undrain: GPU-/);
  });

  test("events are those of the last hour, and of the type that is asked for", async () => {
    const { stdout } = await gpuo(["events", "--type", "granted", "--json"]);
    const granted = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(granted.map(({ event }) => event)).toContain("granted");
    expect(granted.every(({ event }) => event === "granted")).toBe(true);
    expect(granted.map(({ data }) => data.id)).toContain(held);
  });

  test.each(["events | head -n 1 >/dev/null", "run --help | true"])(
    "%s: it ends quietly when who reads it has had enough",
    async (asked) => {
      const program = `${process.execPath} ${new URL("../../dist/gpu-orchestrator.js", import.meta.url).pathname}`;
      const { end, stderr } = await runProgram(["-e", ""], {
        cwd: daemon.folder,
        env: { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder },
        under: ["bash", "-c", `set -o pipefail; ${program} ${asked}`],
      });
      expect([end, stderr]).toEqual([0, ""]);
    },
  );

  test("what cannot be written, as on a full disk, is a failure that is told", async () => {
    const program = `${process.execPath} ${new URL("../../dist/gpu-orchestrator.js", import.meta.url).pathname}`;
    const { end, stderr } = await runProgram([], {
      cwd: daemon.folder,
      env: { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder },
      under: ["bash", "-c", `${program} leases >/dev/full`],
    });
    expect([end, stderr]).toEqual([1, expect.stringMatching(/^gpuo: what was to be printed is lost: .*ENOSPC/)]);
  });

  test("watching goes on over a restart of the daemon, and says meanwhile that what is shown is old", async () => {
    const first = await startDaemon({ simulate: "h100x2" });
    const env = { GPU_ORCHESTRATOR_URL: first.url, HOME: first.folder };
    const { process: watching, ended } = startProgram(["status", "--watch"], { cwd: first.folder, env });
    let [shown, told] = ["", ""];
    watching.stdout.on("data", (data: Buffer) => (shown += data.toString()));
    watching.stderr.on("data", (data: Buffer) => (told += data.toString()));
    const until = (holds: () => boolean) => eventually(async () => holds(), Boolean, 30_000);
    await until(() => shown.includes("2 of 2 free"));
    await first.end("SIGKILL");
    await until(() => told.includes("what is shown is old"));
    const from = shown.length;
    const { folder, url } = first;
    const second = await startDaemon({ simulate: "h100x2", folder, port: Number(new URL(url).port) });
    await until(() => shown.slice(from).includes("2 of 2 free"));
    watching.kill("SIGTERM");
    await ended;
    await second.end();
    second.removeFolder();
  });

  test.each([
    [["quotas"], "principal"],
    [["windows"], "no windows are set"],
    [["usage", "--by", "service"], "total"],
    [["webhooks"], "no deliveries"],
    [["completion", "bash"], "complete -F _gpuo gpuo"],
    [["doctor"], "SIMULATED"],
    [["history"], "released"],
  ])("%j answers", async (args, words) => {
    const { end, stdout } = await gpuo(args);
    expect([end, stdout]).toEqual([0, expect.stringContaining(words)]);
  });

  test("a mistyped verb or flag is refused with what was probably meant", async () => {
    expect(await gpuo(["statsu"])).toMatchObject({ end: 64, stderr: expect.stringContaining("Did you mean status?") });
    expect(await gpuo(["status", "--jsno"])).toMatchObject({ end: 64, stderr: expect.stringContaining("--json") });
    expect((await gpuo(["allocate", "--mem", "lots"])).end).toBe(64);
  });

  test("an address that nobody listens on exits 69 with what to do", async () => {
    const { end, stderr } = await gpuo(["status", "--url", "http://127.0.0.1:1"]);
    expect(end).toBe(69);
    expect(stderr).toContain("gpuo doctor");
    expect(await gpuo(["doctor", "--url", "http://127.0.0.1:1"])).toMatchObject({
      end: 1,
      stdout: expect.stringContaining("gpuo serve"),
    });
    expect((await gpuo(["status", "--url", "nonsense"])).end).toBe(78);
  });
});

describe.skipIf(!isBuilt)("with keys", () => {
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await startDaemon({ config: KEYS, folder: temporaryFolder() });
  });

  afterAll(async () => {
    await daemon.end();
    daemon.removeFolder();
  });

  const gpuo = (args: readonly string[], env: Record<string, string> = {}) =>
    runProgram(args, { cwd: daemon.folder, env: { GPU_ORCHESTRATOR_URL: daemon.url, HOME: daemon.folder, ...env } });

  test("a call without one exits 77 and says how to give one", async () => {
    expect(await gpuo(["status"])).toMatchObject({ end: 77, stderr: expect.stringContaining("--key-file") });
    const wrong = { GPU_ORCHESTRATOR_API_KEY: "reader-key" };
    expect((await gpuo(["cordon", "1", "--reason", "x"], wrong)).end).toBe(77);
  });

  test("a key is taken from a file, which is warned of when others can read it", async () => {
    const file = join(daemon.folder, "key");
    writeFileSync(file, "admin-key\n");
    chmodSync(file, 0o600);
    expect(await gpuo(["status", "--key-file", file])).toMatchObject({ end: 0, stderr: "" });
    chmodSync(file, 0o644);
    expect(await gpuo(["status", "--key-file", file])).toMatchObject({
      end: 0,
      stderr: expect.stringContaining("chmod 600"),
    });
  });

  test("hosts have names in cli.yaml, which is checked", async () => {
    const folder = join(daemon.folder, ".config", "gpu-orchestrator");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(daemon.folder, "named-key"), "admin-key", { mode: 0o600 });
    writeFileSync(join(folder, "cli.yaml"), `hosts:\n  big: {url: "${daemon.url}", key_file: ~/named-key}\n`);
    const env = { GPU_ORCHESTRATOR_URL: "" };
    expect((await gpuo(["status", "--host", "big"], env)).end).toBe(0);
    expect(await gpuo(["status", "--host", "small"], env)).toMatchObject({
      end: 78,
      stderr: expect.stringContaining("big"),
    });
    writeFileSync(
      join(folder, "cli.yaml"),
      `host: big\nhosts:\n  big: {url: "${daemon.url}", key_file: ~/named-key}\n`,
    );
    expect((await gpuo(["status"], env)).end).toBe(0);
    expect((await gpuo(["status"], { GPU_ORCHESTRATOR_URL: "http://127.0.0.1:1" })).end).toBe(69);
    writeFileSync(join(folder, "cli.yaml"), "keyfile: x\n");
    expect(await gpuo(["status"], env)).toMatchObject({ end: 78, stderr: expect.stringContaining("keyfile") });
  });
});
