/** What happens on the host is on the page within a second, without a reload. */
import { afterAll, describe, expect, test } from "vitest";
import { eventually, startDaemon } from "../e2e/daemon.ts";
import { card, closeBrowser, isLive, missing, openHost, openPage, post, shows, soon } from "./browser.ts";

const FAST = "monitoring: { refresh_interval: 1s }\n";

afterAll(closeBrowser);

describe.skipIf(missing !== null)(`the page in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  test("a request is seen from the queue over its lease to its end, and its GPU from free to free", async () => {
    const { daemon, page } = await openHost({ simulate: "h100x1", config: FAST });
    const gpu = card(page, 0);
    await gpu.getByText("free", { exact: true }).waitFor();
    await shows(gpu, "trainer", daemon.allocate({ service_name: "trainer", max_duration: "30m" }));
    await gpu.getByText("leased", { exact: true }).waitFor();
    await gpu.getByText(/(2\d|30) min left/).waitFor();
    const queue = page.locator("#queue tbody tr");
    // With a webhook it is not taken for abandoned, however long the steps before its grant take.
    const ask = { service_name: "ocr", max_duration: "10m", webhook_url: "http://127.0.0.1:9/" };
    const second = await daemon.allocate(ask);
    await shows(queue, /ocr.*in \d+ (to \d+ )?min.*waiting for 1 GPU/s, Promise.resolve());
    await shows(page.locator("#leases tbody tr"), "trainer", Promise.resolve());
    await page.locator("h1").getByText("1 waiting").waitFor();
    // Its holder leads to its lease.
    await gpu.getByRole("link", { name: "trainer" }).click();
    await page.locator("#leases tr:target", { hasText: "trainer" }).waitFor();
    // A GPU that nobody was seen to use would be free at once.
    await gpu.locator('[aria-label^="compute: "]:not([aria-label="compute: 0 %"])').waitFor();
    await shows(gpu, "reclaiming", post(daemon, "/gpu/release", { service_name: "trainer" }));
    const look = () => daemon.call("GET", `/gpu/allocations/${second.body.id}`);
    await eventually(look, ({ body }) => body.status === "leased");
    await soon(gpu.filter({ hasText: "ocr" }));
    await soon(page.getByText("Nobody waits."));
    await soon(page.locator("#events li", { hasText: /trainer ends: released/ }));
    await soon(page.locator("#events li", { hasText: /ocr is granted GPU 0/ }));
  });

  test("what an admin does to a GPU and to the host is seen at once, with its reason", async () => {
    const { daemon, page } = await openHost();
    await shows(
      card(page, 3),
      /cordoned.*fan replaced/s,
      post(daemon, "/gpu/gpus/3/cordon", { reason: "fan replaced" }),
    );
    await shows(card(page, 3), "free", post(daemon, "/gpu/gpus/3/uncordon", { reason: "done" }));
    await daemon.allocate({ service_name: "stays" });
    const banner = page.locator(".banner");
    await shows(
      banner,
      /being drained.*new driver.*1 lease still there/s,
      post(daemon, "/gpu/drain", { reason: "new driver" }),
    );
    await shows(banner, "The host is drained.", post(daemon, "/gpu/release", { service_name: "stays" }));
    await post(daemon, "/gpu/undrain", { reason: "done" });
    await soon(banner, "detached");
  });

  test("figures follow the readings, and a reading is never older than it says", async () => {
    const { daemon, page } = await openHost({ config: FAST });
    await daemon.allocate({ service_name: "busy", required_gpus: 8 });
    await eventually(
      () => daemon.call("GET", "/gpu/status"),
      ({ body }) => body.gpus.every(({ utilization }: { utilization: number }) => utilization > 0),
    );
    await page.locator('#gpus .card [aria-label^="compute: "]:not([aria-label="compute: 0 %"])').nth(7).waitFor();
    await page.getByText("read just now").waitFor();
  });

  test("a lost connection is said and mended, and nothing of the time between is missed", async () => {
    const { daemon, page } = await openHost();
    const { port } = new URL(daemon.url);
    await daemon.end("SIGKILL");
    await soon(page.getByText("connection lost"));
    const again = await startDaemon({ folder: daemon.folder, port: Number(port) });
    try {
      await again.allocate({ service_name: "meanwhile" });
      await isLive(page);
      await soon(page.locator("#leases tbody tr", { hasText: "meanwhile" }));
      await soon(page.locator("#events li", { hasText: "meanwhile is granted" }));
    } finally {
      await again.end();
    }
  });

  test("one stream serves all tabs of a browser, and another takes over when its tab is closed", async () => {
    const { daemon, page } = await openHost();
    const other = await page.context().newPage();
    await other.goto(`${daemon.url}/`);
    await isLive(other);
    const streams = async () => {
      const { body } = await daemon.call("GET", "/metrics");
      return Number(/^gpu_orchestrator_event_streams (\d+)/m.exec(body)?.[1]);
    };
    await eventually(streams, (count) => count === 1);
    await shows(other.locator("#leases"), "first", daemon.allocate({ service_name: "first" }));
    await page.close();
    await shows(other.locator("#leases"), "second", daemon.allocate({ service_name: "second" }));
    await eventually(streams, (count) => count === 1);
  });

  test("a tab that nobody looks at for five minutes closes its stream, and catches up when somebody does", async () => {
    const { daemon, page } = await openHost();
    await page.clock.install();
    await page.reload();
    await isLive(page);
    const streams = async () => {
      const { body } = await daemon.call("GET", "/metrics");
      return Number(/^gpu_orchestrator_event_streams (\d+)/m.exec(body)?.[1]);
    };
    const becomes = (state: string) =>
      page.evaluate(
        `Object.defineProperty(document, "visibilityState", { configurable: true, get: () => "${state}" });` +
          'document.dispatchEvent(new Event("visibilitychange"))',
      );
    await becomes("hidden");
    await page.clock.fastForward("04:50");
    await eventually(streams, (count) => count === 1);
    await page.clock.fastForward("00:11");
    await eventually(streams, (count) => count === 0);
    await daemon.allocate({ service_name: "meanwhile" });
    await becomes("visible");
    await page.locator("#leases tbody tr", { hasText: "meanwhile" }).waitFor();
    await page.locator("#events li", { hasText: "meanwhile is granted" }).waitFor();
    expect(await page.locator("#events li", { hasText: "GPU 3 is seen" }).count()).toBe(1);
    await eventually(streams, (count) => count === 1);
  });

  test("names, whatever is in them, are text and nothing else", async () => {
    const { daemon, page } = await openHost();
    const hostile = `<img src=x onerror="document.title='caught'">\u202e{{7*7}}`;
    await post(daemon, "/gpu/gpus/0/cordon", { reason: hostile });
    await card(page, 0).getByText("<img src=x").waitFor();
    await page.locator("#events li", { hasText: "<img src=x" }).waitFor();
    await daemon.allocate({ service_name: `${"x".repeat(120)}.-_` });
    await page.locator("#leases tbody tr", { hasText: "xxxx" }).waitFor();
    const hook = `http://127.0.0.1:9/${"p".repeat(200)}`;
    await daemon.allocate({ service_name: "y".repeat(128), required_gpus: 8, webhook_url: hook });
    await page.locator("#queue tbody tr", { hasText: "yyyy" }).waitFor();
    expect(await page.locator("main img").count()).toBe(0);
    expect(await page.title()).toMatch(/GPUs free/);
    const wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    expect(await page.evaluate(wider)).toBe(0);
    await page.setViewportSize({ width: 360, height: 800 });
    expect(await page.evaluate(wider)).toBe(0);
  });

  test("what somebody asks of a holder is at its lease and among the events, as text and nothing else", async () => {
    const { daemon, page } = await openHost();
    const { body } = await daemon.allocate({ service_name: "held" });
    const hostile = `<img src=x onerror="document.title='caught'">\u202e${"m".repeat(200)}`;
    const lease = page.locator("#leases tbody tr", { hasText: "held" });
    const nudge = post(daemon, `/gpu/allocations/${body.id}/nudge`, { message: hostile });
    await shows(lease, /wrote .* ago: <img src=x/, nudge);
    await page.locator("#events li", { hasText: /held is sent a message by .*: <img src=x/ }).waitFor();
    expect(await page.locator("main img").count()).toBe(0);
    expect(await page.title()).toMatch(/GPUs free/);
    await page.setViewportSize({ width: 360, height: 800 });
    const wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    expect(await page.evaluate(wider)).toBe(0);
  });

  test("a page that is opened later shows what has happened before", async () => {
    const { daemon } = await openHost();
    await daemon.allocate({ service_name: "earlier" });
    const page = await openPage(daemon.url);
    await page.locator("#events li", { hasText: "earlier is granted" }).waitFor();
  });
});
