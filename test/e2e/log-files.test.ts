/** `logging.file` of a daemon with a worker, as log rotation treats it: moved away, and a SIGHUP. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { eventually, isBuilt, PROGRAM, temporaryFolder } from "./daemon.ts";
import { freePort } from "./free-port.ts";

const suite = test.skipIf(!isBuilt);

suite("SIGHUP opens the logs of daemon and worker anew, and ends neither where they cannot be (needs the built program)", async () => {
  const folder = temporaryFolder();
  const port = await freePort();
  writeFileSync(
    join(folder, "config.yaml"),
    `server: {port: ${port}}
logging: {file: logs/d.log}
monitoring: {source: simulated}
simulation: {host: t4x1}
work: {enabled: true, allow_unauthenticated: true, allow_same_user: true, allow_root: true, cage: session}
`,
  );
  const env = { PATH: process.env.PATH ?? "" };
  const daemon = spawn(process.execPath, [PROGRAM, "serve", "--config", "config.yaml"], {
    cwd: folder,
    stdio: "ignore",
    env,
  });
  onTestFinished(async () => {
    const ended = once(daemon, "exit");
    if (daemon.kill("SIGTERM")) await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  const said = (file: string, words: string) => {
    const whole = join(folder, file);
    return existsSync(whole) && readFileSync(whole, "utf8").includes(words);
  };
  const both = (where: string, words: string) =>
    eventually(
      async () => ["d.log", "d.worker.log"].every((name) => said(`${where}/${name}`, words)),
      (isSo) => isSo,
    );
  await eventually(
    async () => said("logs/d.log", '"serving"') && said("logs/d.worker.log", "has taken up its runs"),
    (isSo) => isSo,
  );
  expect(said("logs/d.log", "has taken up its runs")).toBe(false);
  for (const name of ["d.log", "d.worker.log"])
    renameSync(join(folder, "logs", name), join(folder, "logs", `${name}.1`));
  daemon.kill("SIGHUP");
  await both("logs", "");
  renameSync(join(folder, "logs"), join(folder, "old"));
  writeFileSync(join(folder, "logs"), "in their place");
  daemon.kill("SIGHUP");
  await both("old", "cannot be opened anew");
  expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200);
  expect(said("old/d.log", "the worker has ended")).toBe(false);
});
