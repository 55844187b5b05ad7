/**
 * Every state of a GPU and of a request that the API has is on the page within a second of the API's saying so. The
 * tests are made from the API's own lists: a state that is added there has no scene here, and its test fails.
 */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lookOf } from "../../src/web/model/states.ts";
import { recordSchema } from "../../src/wire/allocations/answers.ts";
import { gpuState } from "../../src/wire/gpus/answers.ts";
import { eventually, startDaemon, type TestDaemon } from "../e2e/daemon.ts";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { findings } from "./axe.ts";
import { card, closeBrowser, isLive, missing, openPage, post, soon } from "./browser.ts";

const STATES = gpuState.options;
type State = (typeof STATES)[number];
const STATUSES = recordSchema.shape.status.options;
type Status = (typeof STATUSES)[number];

const HEALTHY: SmiGpu = {};
const SICK: SmiGpu = { remappedRowsFailure: "Yes" };
const USED: SmiGpu = { memoryUsedMib: 20_000, processes: [{ pid: 4_242, usedMemoryMib: 20_000 }] };
const DEAF = "http://127.0.0.1:9/";

/** A host whose driver says of each GPU what it is told, with the page before it. One GPU a state: none disturbs another. */
class Stage {
  readonly daemon: TestDaemon;
  readonly page: Page;
  readonly #smi: FakeNvidiaSmi;
  readonly #gpus: SmiGpu[];

  constructor(daemon: TestDaemon, page: Page, smi: FakeNvidiaSmi, gpus: SmiGpu[]) {
    this.daemon = daemon;
    this.page = page;
    this.#smi = smi;
    this.#gpus = gpus;
  }

  reads(index: number, gpu: SmiGpu): void {
    this.#gpus[index] = gpu;
    this.#smi.tell({ mode: "text", text: smiDocument({ gpus: this.#gpus }) });
  }

  async gpu(index: number) {
    return (await this.daemon.call("GET", "/gpu/status")).body.gpus[index];
  }

  async becomes(index: number, state: State): Promise<void> {
    await eventually(
      () => this.gpu(index),
      (gpu) => gpu.state === state,
      20_000,
    );
  }

  async lease(index: number): Promise<void> {
    const { body } = await this.daemon.allocate({ service_name: `of-${index}`, preferred_gpus: [index] });
    expect(body.gpu_ids).toEqual([index]);
  }
}

/** What brings the GPU of that index into each state. */
const SCENES: { readonly [state in State]: (stage: Stage, index: number) => Promise<void> | void } = {
  async free({ daemon, page }, index) {
    await post(daemon, `/gpu/gpus/${index}/cordon`, { reason: "fan" });
    await card(page, index).getByText("cordoned", { exact: true }).waitFor();
    await post(daemon, `/gpu/gpus/${index}/uncordon`, { reason: "done" });
  },
  leased: (stage, index) => stage.lease(index),
  async reclaiming(stage, index) {
    await stage.lease(index);
    stage.reads(index, USED);
    await eventually(
      () => stage.gpu(index),
      ({ holders }) => holders[0].in_use_since !== null,
    );
    await post(stage.daemon, "/gpu/release", { service_name: `of-${index}` });
  },
  // At work for nobody: a ghost.
  quarantined: (stage, index) => stage.reads(index, { utilizationPercent: 100 }),
  cordoned: async ({ daemon }, index) => void (await post(daemon, `/gpu/gpus/${index}/cordon`, { reason: "fan" })),
  lost: (stage, index) => stage.reads(index, { memoryUsedMib: "GPU is lost" }),
  unhealthy: (stage, index) => stage.reads(index, SICK),
  unknown: (stage, index) => stage.reads(index, { memoryTotalMib: "N/A", memoryUsedMib: "N/A" }),
  async recovering(stage, index) {
    stage.reads(index, SICK);
    await stage.becomes(index, "unhealthy");
    stage.reads(index, HEALTHY);
  },
  degraded: (stage, index) => stage.reads(index, { eccVolatile: 3 }),
  mig(stage, index) {
    const migDevices = [{ index: 0, gpuInstanceId: 1, computeInstanceId: 0 }];
    stage.reads(index, { migMode: "Enabled", utilizationPercent: "N/A", migDevices });
  },
  occupied: (stage, index) => stage.reads(index, USED),
};

describe.skipIf(missing !== null)(`the page in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  let stage: Stage;
  const ends: (() => Promise<void> | void)[] = [];

  beforeAll(async () => {
    const gpus = STATES.map(() => HEALTHY);
    const smi = new FakeNvidiaSmi({ mode: "text", text: smiDocument({ gpus }) });
    const config = `monitoring: { nvidia_smi_path: ${smi.path}, refresh_interval: 1s, timeout: 5s }\n`;
    const daemon = await startDaemon({ simulate: null, config });
    ends.push(
      () => smi[Symbol.dispose](),
      () => daemon.end().then(() => daemon.removeFolder()),
    );
    const page = await openPage(daemon.url, {}, (end) => ends.unshift(end));
    await isLive(page);
    stage = new Stage(daemon, page, smi, gpus);
  });

  afterAll(async () => {
    for (const end of ends) await end();
    await closeBrowser();
  });

  test.each(STATES)("a GPU that becomes %s is shown so, without a reload", async (state) => {
    const index = STATES.indexOf(state);
    await SCENES[state](stage, index);
    await stage.becomes(index, state);
    const word = card(stage.page, index).locator(".card-head").getByText(lookOf(state).word, { exact: true });
    await soon(word);
  });

  test.each(["light", "dark"] as const)(
    "axe finds nothing serious in any of them, in the %s scheme",
    async (colorScheme) => {
      await stage.page.emulateMedia({ colorScheme });
      expect(await stage.page.locator("#gpus .card").count()).toBe(STATES.length);
      expect(await findings(stage.page)).toEqual([]);
    },
  );

  test("what ails a GPU that is held is shown beside its lease", async () => {
    const index = STATES.indexOf("leased");
    stage.reads(index, { fabricStatus: "Insufficient resources" });
    await eventually(
      () => stage.gpu(index),
      ({ ailment }) => ailment?.state === "isolated",
    );
    await soon(card(stage.page, index).getByText(/^isolated: /));
    await stage.page
      .locator("#leases tr", { hasText: `of-${index}` })
      .getByText("GPU isolated")
      .waitFor();
  });

  /** One request goes through them in this order; each step is made by the test before, or by this. */
  const STEPS: { readonly [status in Status]: (id: string) => Promise<unknown> } = {
    queued: async () => null,
    // Its webhook reaches nobody, so that nobody is seen to have the grant.
    offered: () => post(stage.daemon, "/gpu/release", { service_name: "all-that-are-free" }),
    // Who reads the record has its grant.
    leased: (id) => stage.daemon.call("GET", `/gpu/allocations/${id}`),
    ended: (id) => stage.daemon.release(id),
  };
  const SHOWN: { readonly [status in Status]: (page: Page) => ReturnType<Page["locator"]> } = {
    queued: (page) => page.locator("#queue tbody tr", { hasText: "comes-and-goes" }),
    offered: (page) => page.locator("#leases tbody tr", { hasText: /comes-and-goes.*offered, to be taken/ }),
    leased: (page) => page.locator("#leases tbody tr", { hasText: "comes-and-goes", hasNotText: "offered" }),
    ended: (page) => page.locator("#events li", { hasText: "comes-and-goes ends: released" }),
  };

  test.each(STATUSES)("a request that is %s is shown so, without a reload", async (status) => {
    const { daemon, page } = stage;
    if (status === STATUSES[0]) {
      const { body } = await daemon.call("GET", "/gpu/status");
      const free = body.gpus.filter((gpu: { state: string }) => gpu.state === "free").length;
      await daemon.allocate({ service_name: "all-that-are-free", required_gpus: free });
      await daemon.allocate({ service_name: "comes-and-goes", min_memory_mb: 40_000, webhook_url: DEAF });
    }
    const { body } = await daemon.call("GET", "/gpu/allocations?service_name=comes-and-goes");
    await STEPS[status](body.allocations[0].id);
    await soon(SHOWN[status](page));
  });
});
