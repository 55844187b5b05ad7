/** Under CRDs that are not the controller's own, which have no place for statuses. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { OwnKinds } from "../../src/controller/kubernetes/own-kinds.ts";
import { apply, begin, condition, DEPLOYMENT, end, kubelet, server, started, until } from "./fake-cluster.ts";

const GROUP = "/apis/llm.orchestrator.io/v1";
/** The first seed's CRDs serve these. */
const SEEDS = ["llmworkloads", "llmmodels"];
const OWN = [...SEEDS, "llmworkloads/status", "llmworkloads/scale", "llmmodels/status"];
const serving = (names: readonly string[]) => ({ resources: names.map((name) => ({ name })) });

describe("a controller under the first seed's CRDs", () => {
  beforeEach(begin);
  afterEach(end);

  test("says what to do and makes nothing, and goes on once its own went over them", async () => {
    server.set(GROUP, { metadata: { name: "v1" }, ...serving(SEEDS) });
    await until(() => started.loop.trouble?.includes("gpuo cluster crds") === true, "a trouble");
    expect(started.loop.trouble).toContain("llmworkloads/status, llmmodels/status");
    const { looks } = started.loop;
    apply();
    await started.loop.pass();
    expect(started.loop.looks).toBe(looks);
    expect(server.get(DEPLOYMENT)).toBeUndefined();
    server.set(GROUP, { metadata: { name: "v1" }, ...serving(OWN) });
    await until(() => server.get(DEPLOYMENT) !== undefined, "a Deployment");
    kubelet();
    await until(() => condition("Ready")?.status === "True", "Ready");
  });
});

test("the server is asked again after a minute, at once where something lacked, and one that does not say stops nobody", async () => {
  const call = vi.fn();
  const kinds = new OwnKinds({ call });
  call.mockRejectedValueOnce(new Error("no discovery"));
  expect(await kinds.trouble(0)).toBeNull();
  call.mockResolvedValue(serving(SEEDS));
  expect(await kinds.trouble(1)).toContain("llmworkloads/status, llmmodels/status");
  call.mockResolvedValue(serving(OWN));
  expect([await kinds.trouble(2), await kinds.trouble(60_001)]).toEqual([null, null]);
  expect(call).toHaveBeenCalledTimes(3);
  call.mockResolvedValue(serving([...SEEDS, "llmworkloads/status"]));
  expect(await kinds.trouble(60_002)).toContain("lack llmmodels/status");
});
