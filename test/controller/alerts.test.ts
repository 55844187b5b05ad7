/** The controller's alerts, by Prometheus' own judge. cluster.test.ts holds them to what `/metrics` has. */
import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { isInstalled } from "../metrics/scrape.ts";

const hasPromtool = isInstalled("promtool");

describe.skipIf(!hasPromtool)("the controller's alerts (need promtool: Debian's package prometheus)", () => {
  const promtool = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync("promtool", args, { cwd: "deploy/prometheus", encoding: "utf8" });
    return { status, said: stdout + stderr };
  };

  test("are valid rules", () => {
    expect(promtool("check", "rules", "controller-alerts.yml")).toMatchObject({ status: 0 });
  });

  test("fire when they should, and not while all workloads serve", () => {
    expect(promtool("test", "rules", "controller-alerts.test.yml")).toMatchObject({ status: 0 });
  });
});
