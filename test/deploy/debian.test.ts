/** The Debian package, made around a stand-in for the executable: what is in it, and what its scripts are. `scripts/try-debian.sh` installs the real one in a booted system. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { isBuilt, temporaryFolder } from "../e2e/daemon.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = temporaryFolder();
const UNPACKED = join(FOLDER, "unpacked");
const hasDpkg = spawnSync("dpkg-deb", ["--version"]).status === 0;

afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

describe.skipIf(!isBuilt || !hasDpkg)("the Debian package (needs the built program and dpkg-deb)", () => {
  const made = (name: string) => {
    const given = [join(FOLDER, "stand-in"), "amd64", join(FOLDER, "LICENSE")];
    execFileSync(process.execPath, ["scripts/debian.mjs", join(FOLDER, name), ...given], { cwd: ROOT });
    return join(FOLDER, name, readdirSync(join(FOLDER, name))[0] as string);
  };
  let file: string;

  beforeAll(() => {
    writeFileSync(join(FOLDER, "stand-in"), "the executable");
    writeFileSync(join(FOLDER, "LICENSE"), "Node's licence");
    file = made("once");
    execFileSync("dpkg-deb", ["-R", file, UNPACKED]);
  }, 120_000);

  const read = (path: string) => readFileSync(join(UNPACKED, path), "utf8");

  test("is the same bytes when it is made again", () => {
    expect(readFileSync(made("again")).equals(readFileSync(file))).toBe(true);
  }, 120_000);

  test("bears the version, and has its settings as a file that an upgrade leaves alone", () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    expect(read("DEBIAN/control")).toContain(`\nVersion: ${version}\n`);
    expect(read("DEBIAN/conffiles")).toBe("/etc/gpu-orchestrator/config.yaml\n");
    expect(read("etc/gpu-orchestrator/config.yaml")).toBe(readFileSync(join(ROOT, "config.yaml.example"), "utf8"));
  });

  test("has units that start the program where the package puts it", () => {
    for (const name of ["gpu-orchestrator.service", "gpu-orchestrator-worker.service"]) {
      const unit = read(`usr/lib/systemd/system/${name}`);
      const [, program = "", verb = ""] = /^ExecStart=(\S+) (\S+)/m.exec(unit) ?? [];
      expect(read(program)).toBe("the executable");
      expect(["serve", "worker"]).toContain(verb);
      expect(unit).not.toContain("/opt/");
    }
  });

  test("has one program under two names, with the Python that it starts beside it, and no Node or script", () => {
    for (const name of ["gpuo", "gpu-orchestrator"]) expect(read(`usr/bin/${name}`)).toBe("the executable");
    const beside = readdirSync(join(UNPACKED, "usr/lib/gpu-orchestrator")).sort();
    expect(beside).toEqual(["executors", "gpuo", "templates"]);
    expect(read("usr/lib/gpu-orchestrator/executors/python/run_executor.py").length).toBeGreaterThan(0);
  });

  test("has scripts that a shell can read, completions and a man page with each verb", () => {
    for (const script of ["DEBIAN/postinst", "DEBIAN/prerm", "DEBIAN/postrm"])
      expect(spawnSync("sh", ["-n", join(UNPACKED, script)]).status).toBe(0);
    expect(read("usr/share/bash-completion/completions/gpuo")).toContain("_gpuo()");
    const page = execFileSync("gzip", ["-dc", join(UNPACKED, "usr/share/man/man1/gpuo.1.gz")], { encoding: "utf8" });
    for (const verb of ["RUN", "STATUS", "MCP", "SERVE"]) expect(page).toContain(`.SH GPUO ${verb}\n`);
  });

  test("brings the licences of the program and of Node", () => {
    expect(read("usr/share/doc/gpu-orchestrator/copyright")).toMatch(/MIT License[\s\S]*Node's licence/);
  });
});

describe("the package's scripts", () => {
  const root = join(FOLDER, "root");
  const log = join(FOLDER, "called");
  const tools = join(FOLDER, "tools");
  const state = join(root, "var/lib/gpu-orchestrator");

  /** Runs one below a root of its own, with stand-ins for systemd's and dpkg's programs. @returns what it told units. */
  function told(script: string, ...args: string[]): string[] {
    writeFileSync(log, "");
    const source = readFileSync(join(ROOT, "deploy/debian", script), "utf8");
    const here = source.replaceAll(/\/(?=(?:var\/lib|etc|run)\/)/g, `${root}/`);
    const { status, stderr } = spawnSync("sh", ["-c", here, script, ...args], {
      encoding: "utf8",
      env: { PATH: `${tools}:${process.env.PATH}` },
    });
    expect(status, stderr).toBe(0);
    return readFileSync(log, "utf8")
      .split("\n")
      .filter((line) => line.startsWith("deb-systemd-invoke"));
  }

  beforeEach(() => {
    rmSync(root, { recursive: true, force: true });
    for (const folder of [tools, state, join(root, "run/systemd/system")]) mkdirSync(folder, { recursive: true });
    for (const name of ["deb-systemd-helper", "deb-systemd-invoke", "systemctl", "systemd-sysusers"])
      writeFileSync(join(tools, name), `#!/bin/sh\necho "${name} $*" >>${log}\n`, { mode: 0o755 });
  });
  const START = "deb-systemd-invoke start gpu-orchestrator.service";
  const STOP = "deb-systemd-invoke stop gpu-orchestrator-worker.service gpu-orchestrator.service";
  const RESTART = "deb-systemd-invoke try-restart gpu-orchestrator.service gpu-orchestrator-worker.service";

  test("start the daemon at the first install, and restart what runs at an upgrade", () => {
    expect(told("postinst", "configure", "")).toEqual([START]);
    expect(told("prerm", "upgrade", "1.0.1")).toEqual([]);
    expect(told("postinst", "configure", "1.0.0")).toEqual([RESTART]);
  });

  test("start the daemon again when the package is installed after a removal, and restart it at the next upgrade", () => {
    expect(told("prerm", "remove")).toEqual([STOP]);
    told("postrm", "remove");
    // dpkg names the version that was configured last, as at an upgrade.
    expect(told("postinst", "configure", "1.0.0")).toEqual([`${START} gpu-orchestrator-worker.service`]);
    expect(told("postinst", "configure", "1.0.0")).toEqual([RESTART]);
  });

  test("leave nothing behind at a purge", () => {
    told("prerm", "remove");
    told("postrm", "purge");
    expect(existsSync(state)).toBe(false);
  });
});
