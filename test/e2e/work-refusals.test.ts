/** Where the daemon may not be the one that starts what runs. */
import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { isBuilt, PROGRAM, temporaryFolder } from "./daemon.ts";

const MISCONFIGURED = 78;

/** @param under what the daemon is started by. */
function started(executor: string, under: readonly string[], env: Record<string, string> = {}) {
  const cwd = temporaryFolder();
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
  writeFileSync(
    join(cwd, "config.yaml"),
    `server: {port: 0}
work:
  enabled: true
  allow_unauthenticated: true
  allow_root: true
  allow_same_user: true
  executors: {one: ${executor}}
`,
  );
  const [program = "", ...args] = [...under, process.execPath, PROGRAM, "check-config", "config.yaml"];
  return spawnSync(program, args, { cwd, env: { PATH: process.env.PATH, ...env }, encoding: "utf8" });
}

const SHELL = "{type: process, programs: [/bin/sh]}";
const NO_NEW_PRIVILEGES = ["setpriv", "--no-new-privs", "--"];

describe.skipIf(!isBuilt)("an embedded worker is refused (needs dist/)", () => {
  test("under NoNewPrivileges, which it would have too, unless only stand-ins run", () => {
    const refused = started(SHELL, NO_NEW_PRIVILEGES);
    expect(refused.stdout + refused.stderr).toContain("embedded does not go with NoNewPrivileges");
    expect(refused.status).toBe(MISCONFIGURED);
    expect(started("{type: simulated}", NO_NEW_PRIVILEGES).status).toBe(0);
    expect(started(SHELL, []).status).toBe(0);
  });

  test("under systemd, which would end what runs with the daemon", () => {
    const refused = started(SHELL, [], { NOTIFY_SOCKET: "/run/systemd/notify" });
    expect(refused.stdout + refused.stderr).toContain("embedded does not go with systemd");
    expect(refused.status).toBe(MISCONFIGURED);
  });

  test.skipIf(process.getuid?.() !== 0)("as the first process of a container (needs root)", () => {
    const refused = started(SHELL, ["unshare", "--pid", "--fork", "--kill-child", "--"]);
    expect(refused.stdout + refused.stderr).toContain("embedded does not go with a container");
    expect(refused.status).toBe(MISCONFIGURED);
  });
});

describe.skipIf(!isBuilt)("whose runs would be (needs dist/)", () => {
  const { username } = userInfo();

  function judged(verb: string, work: string) {
    const cwd = temporaryFolder();
    onTestFinished(() => rmSync(cwd, { recursive: true, force: true }));
    const file = join(cwd, "config.yaml");
    writeFileSync(file, `server: {port: 0}\nwork: {enabled: true, allow_unauthenticated: true, ${work}}\n`);
    const args = verb === "worker" ? ["worker", "--config", file] : [verb, file];
    const env = { PATH: process.env.PATH };
    const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], { cwd, env, encoding: "utf8" });
    return { status, said: stdout + stderr };
  }

  test("the daemon's own user is refused by whatever way it is named, with a worker of its own or another", () => {
    for (const runAs of [username, `{ann: nobody, bob: ${username}}`]) {
      for (const worker of ["embedded", "external"]) {
        const { status, said } = judged("check-config", `allow_root: true, worker: ${worker}, run_as: ${runAs}`);
        expect([status, said], `${runAs}, ${worker}`).toEqual([
          MISCONFIGURED,
          expect.stringContaining(`the daemon's own user ${username}`),
        ]);
      }
    }
    expect(judged("check-config", "worker: external, run_as: nobody").status).toBe(0);
    expect(judged("check-config", "worker: external").status).toBe(0);
  });

  test("a worker does not start whose runs could do to each other what it can", () => {
    for (const runAs of ["", `, run_as: ${username}`]) {
      const { status, said } = judged("worker", `allow_root: true, worker: external${runAs}`);
      expect([status, said]).toEqual([MISCONFIGURED, expect.stringContaining(`the worker's own user ${username}`)]);
    }
  });
});
