/** How many GPUs are remembered that the driver no longer shows. */
import { expect, test } from "vitest";
import { MAX_ABSENT_GPUS } from "../../../../src/core/decisions/observe/forgotten.ts";
import { emptyHost } from "../../../../src/core/host/changes.ts";
import { evolve } from "../../../../src/core/host/evolve.ts";
import { ADMIN, h100, SimulatedHost, seconds } from "../../../simulation/simulated-host.ts";

const READINGS = 40;
const GPUS = 8;

/** A driver that names its GPUs anew at each reading. */
function renameAll(host: SimulatedHost, round: number): void {
  for (const [index, device] of host.devices.entries()) {
    device.reading = { ...device.reading, uuid: `GPU-${String(round).padStart(4, "0")}-${index}` };
  }
  host.advance(seconds(5));
}

test("a driver that names its GPUs anew at every reading does not grow the inventory without end", () => {
  const host = new SimulatedHost(Array.from({ length: GPUS }, (_, index) => h100(`GPU-first-${index}`)));
  const leased = host.submit({ preferredGpus: ["GPU-first-0"] });
  host.do({ type: "cordon", gpu: "GPU-first-1", actor: ADMIN, reason: "to be mended" });
  for (let round = 0; round < READINGS; round++) {
    renameAll(host, round);
    expect(host.state.gpus.values().length).toBeLessThanOrEqual(MAX_ABSENT_GPUS + GPUS);
  }
  expect(host.state.sight.missing.size).toBeLessThanOrEqual(MAX_ABSENT_GPUS + GPUS);
  expect(host.state.sight.newcomers.size).toBeLessThanOrEqual(MAX_ABSENT_GPUS + GPUS);

  // What a lease or an admin's word is about stays, however long it has been gone; of the others the latest do.
  expect(host.allocation(leased).status).toBe("leased");
  const kept = host.state.gpus.values().map(({ uuid }) => uuid);
  expect(kept).toContain("GPU-first-0");
  expect(kept).toContain("GPU-first-1");
  expect(kept).not.toContain("GPU-first-2");
  expect(kept).toContain("GPU-0039-7");
  expect(kept).toContain("GPU-0030-0");
  expect(host.log.reduce(evolve, emptyHost(host.state.policy)).gpus.values().length).toBe(kept.length);
});

test("a host that loses all of a few hundred GPUs for a while forgets none", () => {
  const host = new SimulatedHost(Array.from({ length: MAX_ABSENT_GPUS }, (_, index) => h100(`GPU-${index}`)));
  for (const device of host.devices) device.present = false;
  host.advance(seconds(60));
  expect(host.state.gpus.values().length).toBe(MAX_ABSENT_GPUS);
  expect(host.log.some(({ type }) => type === "gpu-gone")).toBe(false);
});
