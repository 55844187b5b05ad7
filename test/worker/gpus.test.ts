/** GPUs that fail under real processes, and those that are not empty yet. */
import { afterAll, describe, expect, test } from "vitest";
import { Site, until } from "./site.ts";

const site = new Site({ gpus: 2 });
await site.start();
afterAll(() => site.close());

const SLEEPS = ["/bin/sleep", "600"];
const gpuOf = (uid: string) => {
  const run = site.run(uid);
  return run !== undefined && "lease" in run ? run.lease?.gpuUuids[0] : undefined;
};

describe("a GPU that fails", () => {
  test("ends what runs on it, which starts again elsewhere if it may be lost", async () => {
    const id = site.submit(SLEEPS, { retry: { lost: 1, backoff: "100ms" } });
    const { id: first } = await site.phase(id, "running");
    const sick = gpuOf(id) as string;
    site.leases.sick.set(sick, { isFatal: true, detail: `${sick} is lost` });
    await until("it runs on the other", () => site.run(id)?.phase === "running" && gpuOf(id) !== sick);
    expect(site.books.state.runs.get(first)).toMatchObject({ reason: "gpu-failed", detail: `${sick} is lost` });
    expect(site.leases.takenFromTheLiving).toEqual([]);
    site.books.command({ type: "cancel-task", id });
    await site.isOver(id);
    site.leases.sick.clear();
  });

  test("explains the exit of what failed on it, and not of what did well", async () => {
    for (const uuid of site.leases.gpusHere) site.leases.sick.set(uuid, { isFatal: false, detail: `${uuid} is sick` });
    const ill = site.submit(["/bin/sh", "-c", "exit 7"]);
    const well = site.submit(["/bin/sh", "-c", "exit 0"]);
    expect(await site.isOver(ill)).toMatchObject({ status: "FAILED", error: expect.stringContaining("is sick") });
    expect(site.run(ill)).toMatchObject({ reason: "gpu-failed", exitCode: 7 });
    expect((await site.isOver(well)).status).toBe("DONE");
    site.leases.sick.clear();
  });
});

describe("a GPU that is not empty", () => {
  const service = () => site.serve({ command: SLEEPS, restart: { policy: "always", backoff: "100ms" } });

  test("is waited for by a service that is restarted on it, and for too long it gets another lease", async () => {
    const uid = service();
    const first = await site.phase(uid, "running");
    site.leases.emptiness = { is: "awaited" };
    site.books.command({ type: "stop-run", id: first.id });
    await until("the next run has the lease", () => site.run(uid)?.phase === "assigned");
    const second = site.run(uid)?.id as string;
    expect(site.read(second, "order.json")).toBeNull();
    site.leases.emptiness = { is: "empty" };
    await until("it runs", () => site.run(uid)?.phase === "running");
    expect(site.run(uid)?.id).toBe(second);

    site.leases.emptiness = { is: "overdue", detail: "9000 MiB in use" };
    site.books.command({ type: "stop-run", id: second });
    await until("another runs", () => site.run(uid)?.id !== second && site.run(uid)?.phase === "running");
    const runs = [...site.books.state.runs.values()].filter(({ job }) => job.uid === uid);
    const leases = runs.map((run) =>
      run.phase === "ended" ? run.allocationId : "lease" in run && run.lease?.allocationId,
    );
    expect(runs[2]).toMatchObject({ phase: "ended", reason: "gpu-not-clean", detail: "9000 MiB in use" });
    expect(leases[1]).toBe(leases[0]);
    expect(leases.at(-1)).not.toBe(leases[0]);
    expect(site.read((runs[2] as (typeof runs)[number]).id, "order.json")).toBeNull();
    site.leases.emptiness = { is: "empty" };
  });
});
