/** The built program's `replay`, beside the daemon that made the decisions, after it, and on a backup. */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { runProgram } from "./program.ts";

const CONFIG = "storage:\n  path: state.db\n";
const THE_SAME = "Decided again from what was kept, the same came of it, to the byte.";

async function serve(folder: string): Promise<TestDaemon> {
  const daemon = await startDaemon({ folder, config: CONFIG, simulate: "h100x2" });
  onTestFinished(async () => {
    await daemon.end("SIGKILL");
  });
  await eventually(
    () => daemon.call("GET", "/readyz"),
    ({ status }) => status === 200,
  );
  return daemon;
}

/** The number of the last event so far, and what it is. */
function lastEvent(folder: string): { readonly seq: number; readonly events: string } {
  const reader = new DatabaseSync(join(folder, "state.db"), { readOnly: true });
  const row = reader.prepare("SELECT seq, events FROM journal ORDER BY seq DESC LIMIT 1").get();
  reader.close();
  return row as unknown as { seq: number; events: string };
}

test.skipIf(!isBuilt)(
  "a past decision is told and made again, beside the daemon, after a kill, and from a backup (needs the built program)",
  {
    timeout: 60_000,
  },
  async () => {
    const cwd = temporaryFolder();
    onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
    const daemon = await serve(cwd);
    const replay = (...args: string[]) => runProgram(["replay", ...args], { cwd });
    await daemon.call("POST", "/gpu/gpus/0/cordon", { reason: "dusty \u001b[2J\u202e fan" });
    const { body } = await daemon.allocate({ workload_data: { prompt: "very private" } });
    const { seq: granted } = lastEvent(cwd);

    const told = await replay("state.db", "--at", String(granted));
    expect(told).toMatchObject({ end: 0, stderr: "" });
    const pieces = [
      `event ${granted} (granted), decided at `,
      `granted: GPU 1: no others were free and suited`,
      THE_SAME,
    ];
    for (const piece of [...pieces, "cordoned (dusty \\u{1b}[2J\\u{202e} fan (anonymous))", body.id]) {
      expect(told.stdout).toContain(piece);
    }
    for (const piece of ["private", "\u001b", "\u202e"]) expect(told.stdout).not.toContain(piece);
    const asJson = await replay("state.db", "--at", String(granted), "--json");
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      event: granted,
      type: "granted",
      isSame: true,
      command: { type: "allocate", ask: { workloadData: { prompt: "very private" } } },
      queue: [{ id: body.id, outcome: "granted" }],
    });

    await daemon.release(body.id);
    const { seq: last } = lastEvent(cwd);
    await daemon.end("SIGKILL");
    expect(await replay("state.db", "--at", String(last))).toMatchObject({
      end: 0,
      stdout: expect.stringContaining(THE_SAME),
    });
    await runProgram(["backup", "copy.db", "--database", "state.db"], { cwd });
    const copied = await replay("copy.db", "--at", String(granted));
    expect(copied.stdout).toBe(told.stdout);

    const writer = new DatabaseSync(join(cwd, "copy.db"));
    writer.prepare("UPDATE journal SET events = replace(events, 'granted', 'Granted') WHERE seq = ?").run(granted);
    writer.close();
    const differs = await replay("copy.db", "--at", String(granted));
    expect(differs).toMatchObject({
      end: 1,
      stdout: expect.stringContaining("DECIDED AGAIN, THIS COMES OUT DIFFERENTLY"),
    });
  },
);

test.skipIf(!isBuilt)("exit codes say what went wrong (needs the built program)", async () => {
  const cwd = temporaryFolder();
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
  writeFileSync(join(cwd, "letter.txt"), "dear reader, ".repeat(100));
  const cases: [string[], number, RegExp][] = [
    [["replay", "--at", "1"], 64, /missing required argument/],
    [["replay", "state.db"], 64, /required option '--at <event>' not specified/],
    [["replay", "state.db", "--at", "1.5"], 64, /expected the number of an event, from 1/],
    [["replay", "state.db", "--at", "1"], 66, /^there is no file state\.db$/m],
    [["replay", "letter.txt", "--at", "1"], 65, /^letter\.txt is not a database of gpu-orchestrator$/m],
  ];
  for (const [args, end, stderr] of cases) {
    const ended = await runProgram(args, { cwd });
    expect(ended, args.join(" ")).toEqual({ end, stdout: "", stderr: expect.stringMatching(stderr) });
  }
});
