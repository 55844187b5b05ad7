/** What work asks of the GPUs that it has leased, as the readings and the kernel's log show them. */
import { describe, expect, test } from "vitest";
import { emptinessOf, troubleOf } from "../../src/daemon/leased-gpus.ts";
import { h100, process, SimulatedHost, seconds } from "../simulation/simulated-host.ts";

function leased(policy: ConstructorParameters<typeof SimulatedHost>[1] = {}) {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], policy);
  const id = host.submit({ preferredGpus: ["GPU-a"] });
  host.advance(seconds(20));
  return {
    host,
    trouble: () => troubleOf(host.allocation(id), host.state),
    emptiness: (since: number) => emptinessOf(host.allocation(id), since, host.state, host.now).is,
    id,
  };
}

describe("what is wrong with a lease's GPU", () => {
  test("is nothing as long as its readings are good, whatever its neighbour has", () => {
    const { host, trouble } = leased();
    const gone = host.devices[1];
    if (gone !== undefined) gone.present = false;
    host.advance(seconds(60));
    expect(trouble()).toBeNull();
  });

  test("is fatal when it is missing from several good readings, and not when the monitor says nothing", () => {
    const { host, trouble } = leased();
    host.failProbe("timeout");
    expect(trouble()).toBeNull();
    const [gone] = host.devices;
    if (gone !== undefined) gone.present = false;
    host.advance(seconds(5));
    expect(trouble()).toBeNull();
    host.advance(seconds(20));
    expect(trouble()).toMatchObject({ isFatal: true, detail: expect.stringContaining("GPU-a is lost") });
  });

  test("only explains a failure when it is unhealthy: what runs there may run on", () => {
    const { host, trouble } = leased();
    const [sick] = host.devices;
    host.gpu("GPU-a", { health: { ...(sick as NonNullable<typeof sick>).reading.health, remappedRowsFailure: true } });
    host.advance(seconds(5));
    expect(trouble()).toEqual({ isFatal: false, detail: "GPU-a: row remapping has failed" });
  });

  test("is nothing of a lease that is over", () => {
    const { host, trouble, id } = leased();
    host.release(id);
    const [gone] = host.devices;
    if (gone !== undefined) gone.present = false;
    host.advance(seconds(60));
    expect(trouble()).toBeNull();
  });
});

describe("whether a lease's GPU is empty after a run", () => {
  test("need not be seen where no use was, and must be where some was", () => {
    const { host, emptiness } = leased();
    expect(emptiness(host.now)).toBe("empty");
    host.gpu("GPU-a", { memoryUsedMib: 9_000 });
    host.advance(seconds(10));
    host.gpu("GPU-a", { memoryUsedMib: 0 });
    host.advance(seconds(10));
    const endedAt = host.now + 1;
    host.now += 2;
    expect(emptiness(endedAt)).toBe("awaited");
    host.advance(seconds(5));
    expect(emptiness(endedAt)).toBe("empty");
  });

  test("is awaited while memory or a process is left, for reclaim_timeout at most", () => {
    for (const left of [{ memoryUsedMib: 9_000 }, { processes: [process(7)] }]) {
      const { host, emptiness, id } = leased({ reclaimTimeoutMs: seconds(30) });
      host.gpu("GPU-a", left);
      host.advance(seconds(10));
      const endedAt = host.now;
      host.advance(seconds(20));
      expect(emptiness(endedAt)).toBe("awaited");
      host.advance(seconds(10));
      const found = emptinessOf(host.allocation(id), endedAt, host.state, host.now);
      expect(found).toMatchObject({ is: "overdue", detail: expect.stringMatching(/^GPU-a: .* 30 s after the run/) });
    }
  });

  test("goes by verify_release: with never nothing is awaited, with always a reading after the run", () => {
    const never = leased({ verifyRelease: "never" });
    never.host.gpu("GPU-a", { memoryUsedMib: 9_000 });
    never.host.advance(seconds(10));
    expect(never.emptiness(never.host.now)).toBe("empty");

    const always = leased({ verifyRelease: "always" });
    const endedAt = always.host.now + 1;
    always.host.now += 2;
    expect(always.emptiness(endedAt)).toBe("awaited");
    always.host.advance(seconds(5));
    expect(always.emptiness(endedAt)).toBe("empty");
  });
});
