/** How the page lies on screens of every size: nothing beside it, nothing cut off, nothing above another. */
import type { Page } from "playwright-core";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../e2e/daemon.ts";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { closeBrowser, isLive, missing, openHost, openPage, post, started } from "./browser.ts";

/** From a page at 400 % to a screen of 4K. */
const WIDTHS = [320, 360, 768, 1_280, 1_920, 3_840];
/** By WCAG 2.5.8. */
const TARGET_PX = 24;
/** What a finger hits on a telephone. */
const BUTTON_PX = 36;
const DEAF = "http://127.0.0.1:9/";

/** How far the page reaches beside the window. */
const OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
/** What is cut off without a sign of it. */
const CUT = `[...document.querySelectorAll(".masthead *, main *")]
  .filter((one) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1)
  .filter((one) => ["hidden", "clip"].includes(getComputedStyle(one).overflowX))
  .filter((one) => getComputedStyle(one).textOverflow !== "ellipsis" && one.closest(".unseen, thead") === null)
  .map((one) => one.className + ": " + one.textContent.slice(0, 40))`;
/** Times on the axis of which one stands in another. */
const COLLISIONS = `[...document.querySelectorAll(".axis")].flatMap((axis) => {
  const boxes = [...axis.children].map((one) => one.getBoundingClientRect()).filter(({ width }) => width > 0);
  return boxes.flatMap((box, i) => (i > 0 && box.left < boxes[i - 1].right - 1 ? [box.left + " " + boxes[i - 1].right] : []));
})`;
const SMALL = `(least, selector) => [...document.querySelectorAll(selector)]
  .map((one) => [one.getBoundingClientRect(), one.textContent.slice(0, 30)])
  .filter(([{ width, height }]) => width > 0 && (width < least || height < least))
  .map(([{ width, height }, text]) => text + " " + width + " x " + height)`;

afterAll(closeBrowser);

async function fitsEverywhere(page: Page): Promise<void> {
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    // What is far down is laid out when it comes near.
    for (const id of ["time-line", "usage", "events", "limits", "gpus"]) {
      await page.locator(`#${id}`).scrollIntoViewIfNeeded();
    }
    const seen = { over: await page.evaluate(OVER), cut: await page.evaluate(CUT) };
    expect({ width, ...seen, collisions: await page.evaluate(COLLISIONS) }).toEqual({
      width,
      over: 0,
      cut: [],
      collisions: [],
    });
  }
}

describe.skipIf(missing !== null)(`the page in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  test("a host with MIG, shares, a drain and somebody waiting fits every screen, for fingers too", async () => {
    const { daemon, page } = await openHost({ simulate: "h100x8-mig" });
    await daemon.allocate({ service_name: "speech-to-text", sharing: "shared", min_memory_mb: 20_000 });
    await daemon.allocate({ service_name: "notebook", mig_profile: "1g.10gb", max_duration: "1h" });
    await daemon.allocate({ service_name: "wide", required_gpus: 7, webhook_url: DEAF, max_duration: "8h" });
    await post(daemon, "/gpu/drain", { reason: "a new driver on Saturday" });
    await page.locator("#queue tbody tr", { hasText: "wide" }).waitFor();
    await fitsEverywhere(page);
    await page.setViewportSize({ width: 360, height: 800 });
    const small = (least: number, selector: string) =>
      page.evaluate(`(${SMALL})(${least}, ${JSON.stringify(selector)})`);
    expect(await small(BUTTON_PX, ".masthead button, main button:not(.card-head)")).toEqual([]);
    expect(await small(TARGET_PX, "button, a, input")).toEqual([]);
  });

  test("64 GPUs and a queue fit every screen, and their time line is no longer than the cards", async () => {
    const smi = new FakeNvidiaSmi({ mode: "gpus", count: 64 });
    onTestFinished(() => smi[Symbol.dispose]());
    const daemon = await started({ simulate: null, config: `monitoring: { nvidia_smi_path: ${smi.path} }\n` });
    await eventually(
      () => daemon.call("GET", "/readyz"),
      ({ status }) => status === 200,
    );
    for (let i = 0; i < 32; i++) {
      await daemon.allocate({ service_name: `nightly-finetune-of-team-${i}`, required_gpus: 2, max_duration: "8h" });
    }
    for (let i = 0; i < 30; i++) await daemon.allocate({ service_name: `waits-${i}`, webhook_url: DEAF });
    const page = await openPage(daemon.url);
    await isLive(page);
    await fitsEverywhere(page);
    await page.setViewportSize({ width: 1_920, height: 1_080 });
    await page.locator("#time-line").scrollIntoViewIfNeeded();
    const high = (id: string) => page.evaluate(`document.querySelector("#${id}").getBoundingClientRect().height`);
    expect(Number(await high("time-line"))).toBeLessThan(Number(await high("gpus")));
    // Names are whole where they can be: two lines of them.
    const cut = `(({ scrollHeight, clientHeight }) => scrollHeight - clientHeight)(document.querySelector("#gpus h3"))`;
    expect(Number(await page.evaluate(cut))).toBeLessThanOrEqual(1);
  });

  test("the queue stands beside the only GPU, and what is waited for is one press away", async () => {
    const { daemon, page } = await openHost({ simulate: "h100x1" });
    await daemon.allocate({ service_name: "holds", max_duration: "1h" });
    await daemon.allocate({ service_name: "waits", webhook_url: DEAF });
    await page.locator("#queue tbody tr", { hasText: "waits" }).waitFor();
    const top = (id: string) => page.evaluate(`document.querySelector("#${id}").getBoundingClientRect().top`);
    expect(await top("queue")).toBe(await top("gpus"));
    await page.getByRole("link", { name: "1 waiting" }).click();
    expect(page.url()).toMatch(/#queue$/);
  });

  test("nothing moves for whoever wants that, and bars glide for everybody else", async () => {
    const { page } = await openHost();
    const moving = `getComputedStyle(document.querySelector("#gpus .bar i")).transitionDuration`;
    expect(await page.evaluate(moving)).toBe("0s");
    await page.emulateMedia({ reducedMotion: "no-preference" });
    expect(await page.evaluate(moving)).not.toBe("0s");
  });
});
