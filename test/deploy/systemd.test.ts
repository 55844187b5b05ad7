import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { DEFAULT_SOCKET } from "../../src/client/default-url.ts";
import { isInstalled } from "../metrics/scrape.ts";

const FOLDER = fileURLToPath(new URL("../../deploy/systemd/", import.meta.url));
const UNIT = readFileSync(join(FOLDER, "gpu-orchestrator.service"), "utf8");
/** On the scale of systemd-analyze security, from 0 to 10. A unit that closes nothing has 9.6. */
const MOST_EXPOSURE = 2.5;
/** After SIGTERM the daemon may take so long. */
const DRAIN_S = 10;

const hasSystemd = isInstalled("systemd-analyze");

describe(`systemd-analyze${hasSystemd ? "" : " (skipped: install Debian's package systemd)"}`, {
  skip: !hasSystemd,
}, () => {
  test(`rates the unit's exposure at most ${MOST_EXPOSURE}`, () => {
    const said = analyze(UNIT, "security", "--offline=true");
    const exposure = /Overall exposure level for \S+: (?<level>[\d.]+)/.exec(said)?.groups?.level;
    expect(Number(exposure), said).toBeGreaterThan(0);
    expect(Number(exposure), said).toBeLessThanOrEqual(MOST_EXPOSURE);
  });

  test("finds nothing wrong with the unit", () => {
    // It also looks for the program, which is installed on no machine that runs tests.
    const unit = UNIT.replace("/opt/gpu-orchestrator/bin/node", process.execPath);
    expect(unit).not.toBe(UNIT);
    expect(analyze(unit, "verify", "--recursive-errors=yes")).toBe("");
  });

  /** What it prints about a unit file. */
  function analyze(unit: string, ...args: string[]): string {
    const folder = mkdtempSync(join(tmpdir(), "unit-"));
    try {
      const file = join(folder, "gpu-orchestrator.service");
      writeFileSync(file, unit);
      const { status, stdout, stderr } = spawnSync("systemd-analyze", [...args, file], { encoding: "utf8" });
      expect(status, stderr).toBe(0);
      return stdout + stderr;
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
});

function values(key: string): string[] {
  return [...UNIT.matchAll(/^(?<key>\w+)=(?<value>.*)$/gm)].flatMap(({ groups }) =>
    groups?.key === key ? [groups.value ?? ""] : [],
  );
}

test("the unit runs as the user that the sysusers file makes, and owns the folder it works in", () => {
  const sysusers = readFileSync(join(FOLDER, "gpu-orchestrator.sysusers.conf"), "utf8");
  const { user, home } = /^u (?<user>\S+) - ".*" (?<home>\S+)$/m.exec(sysusers)?.groups ?? {};
  expect(user).toBeDefined();
  expect(values("User")).toEqual([user]);
  expect(values("Group")).toEqual([user]);
  expect(values("WorkingDirectory")).toEqual([home]);
  expect(values("StateDirectory").map((name) => `/var/lib/${name}`)).toEqual([home]);
});

test("the unit lets the daemon lock the host's GPUs in a folder that ProtectSystem closes otherwise", () => {
  expect(values("ProtectSystem")).toEqual(["strict"]);
  expect(values("ReadWritePaths")).toEqual(["-/run/lock"]);
});

test("the unit makes the folder of the socket at which gpuo looks, open to the users of the host", () => {
  expect(values("RuntimeDirectory").map((name) => `/run/${name}`)).toEqual([dirname(DEFAULT_SOCKET)]);
  expect(values("RuntimeDirectoryMode")).toEqual(["0755"]);
});

test("the unit's settings file is the live one, so that a reload reads new keys", () => {
  expect(values("Environment")).toContain("CONFIG_PATH=/etc/gpu-orchestrator/config.yaml");
  expect(values("LoadCredential")).toEqual([]);
  expect(values("ExecReload")).toEqual(["/bin/kill -HUP $MAINPID"]);
});

test("the unit lets the daemon compile JavaScript, be heard by systemd, drain, and see GPUs and their processes", () => {
  expect(values("MemoryDenyWriteExecute")).toEqual([]);
  expect(values("Type")).toEqual(["notify"]);
  expect(values("NotifyAccess")).toEqual(["all"]);
  expect(Number.parseInt(values("TimeoutStopSec")[0] ?? "", 10)).toBeGreaterThan(DRAIN_S);
  expect(values("PrivateDevices")).toEqual([]);
  expect(values("DeviceAllow")).toEqual(expect.arrayContaining(["char-nvidia* rw", "/dev/char/195:255 rw"]));
  expect(values("ProtectProc")).toEqual(["default"]);
  expect(values("RestartPreventExitStatus")).toEqual(["78"]);
});
