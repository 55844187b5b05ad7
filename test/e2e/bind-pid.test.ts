/** A lease bound to a process, by the built program and the kernel's own table. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { isBuilt, startDaemon } from "./daemon.ts";

describe.skipIf(!isBuilt || process.platform !== "linux")("a bound lease", () => {
  test("ends within 10 s of its process and what came from it, over a restart of the daemon too", async () => {
    let daemon = await startDaemon();
    // Its child outlives it.
    const parent = spawn("sh", ["-c", "sleep 60 & echo $!; read wait"], { stdio: ["pipe", "pipe", "inherit"] });
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const child = Number(String(line));
    try {
      const { body } = await daemon.allocate({ bind_pid: true, workload_data: { pid: parent.pid } });
      const record = async () => (await daemon.call("GET", `/gpu/allocations/${body.id}`)).body;
      await daemon.end();
      daemon = await startDaemon({ folder: daemon.folder });
      // It looks each second; a busy machine takes longer.
      await sleep(5_000);
      parent.stdin.end();
      await once(parent, "exit");
      await sleep(2_500);
      expect((await record()).status).toBe("leased");
      process.kill(child, "SIGKILL");
      await expect.poll(async () => (await record()).end_reason, { timeout: 10_000 }).toBe("process-gone");
    } finally {
      parent.kill("SIGKILL");
      await daemon.end();
      daemon.removeFolder();
    }
  }, 60_000);
});
