/** The page for whoever has no mouse, no eyes for it, a small screen, or a key that may do little. */
import { afterAll, describe, expect, test } from "vitest";
import { findings } from "./axe.ts";
import { card, closeBrowser, isLive, missing, openHost, openPage, post, started, tabTo } from "./browser.ts";

const KEYS = ["read", "allocate", "admin"].map(
  (role) => `    ${role}-key-of-a-test: { principal: ${role}er, role: ${role} }`,
);
const WITH_KEYS = `auth:\n  enabled: true\n  api_keys:\n${KEYS.join("\n")}\n`;
const keyOf = (role: string) => `${role}-key-of-a-test`;

afterAll(closeBrowser);

describe.skipIf(missing !== null)(`the page in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  test.each([
    ["light", 1_280],
    ["dark", 1_280],
    ["light", 360],
  ] as const)("axe finds nothing serious in the %s scheme at %i px, nor in its dialogs", async (scheme, width) => {
    const { daemon, page } = await openHost({}, { dark: scheme === "dark", width });
    await daemon.allocate({ service_name: "trainer", required_gpus: 8, max_duration: "1h" });
    await daemon.allocate({ service_name: "ocr", required_gpus: 2, webhook_url: "http://127.0.0.1:9/" });
    await post(daemon, "/gpu/gpus/7/cordon", { reason: "fan" });
    await card(page, 7).filter({ hasText: "cordoned" }).waitFor();
    expect(await findings(page)).toEqual([]);
    await page.getByRole("button", { name: "Ask for GPUs" }).click();
    await page.getByText("Waits, at position").waitFor();
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: /^GPU 7 .*everything about it/ }).click();
    await page.getByRole("dialog").getByText("PCI").waitFor();
    expect(await findings(page)).toEqual([]);
  });

  test("who only listens is told which GPU, which lease and which state each thing is of", async () => {
    const { daemon, page } = await openHost();
    await daemon.allocate({ service_name: "trainer", required_gpus: 7, max_duration: "1h" });
    await daemon.allocate({ service_name: "ocr", required_gpus: 2, webhook_url: "http://127.0.0.1:9/" });
    await page.locator("#queue tbody tr", { hasText: "ocr" }).waitFor();
    for (const name of ["GPUs", "Queue", "Leases", "Time line", "Usage", "Events", "Webhooks"]) {
      await page.getByRole("region", { name, exact: true }).waitFor();
    }
    const gpus = page.getByRole("region", { name: "GPUs", exact: true });
    expect(await gpus.getByRole("heading", { level: 3, name: /^GPU \d: trainer$/ }).count()).toBe(7);
    expect(await gpus.getByRole("heading", { level: 3, name: /^GPU \d: nobody$/ }).count()).toBe(1);
    expect(await gpus.getByRole("button", { name: /^GPU \d leased/ }).count()).toBe(7);
    expect(await gpus.getByRole("img", { name: /^memory: \d+ %$/ }).count()).toBe(8);
    await page.getByRole("button", { name: "Revoke trainer", exact: true }).waitFor();
    await page.getByRole("button", { name: "Revoke ocr", exact: true }).waitFor();
    await page.getByRole("rowheader", { name: "trainer" }).waitFor();
    await page.getByRole("status").getByText("live").waitFor();
    const unnamed = `[...document.querySelectorAll("button, input, a")]
      .filter((one) => (one.ariaLabel ?? one.textContent + (one.labels?.[0]?.textContent ?? "")).trim() === "")`;
    expect(await page.evaluate(`${unnamed}.length`)).toBe(0);
  });

  test("with the keyboard alone a GPU is cordoned, and the focus comes back to where it was", async () => {
    const { daemon, page } = await openHost();
    await tabTo(page, /^GPU 2.*everything/);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: /^GPU 2/ }).waitFor();
    await tabTo(page, /^Cordon$/);
    await page.keyboard.press("Enter");
    const asks = page.getByRole("dialog", { name: "Cordon GPU 2" });
    await asks.waitFor();
    await tabTo(page, /^$/);
    await page.keyboard.type("fan");
    await tabTo(page, /^Cordon$/);
    await page.keyboard.press("Enter");
    await asks.waitFor({ state: "detached" });
    await card(page, 2).getByText("cordoned", { exact: true }).waitFor();
    const { body } = await daemon.call("GET", "/gpu/status");
    expect(body.gpus[2].cordon).toMatchObject({ reason: "fan" });
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(await page.evaluate("document.activeElement.textContent")).toMatch(/^GPU 2.*everything about it/);
  });

  test("a key is asked for, a wrong one is refused, and it is kept in the tab and nowhere else", async () => {
    const daemon = await started({ config: WITH_KEYS });
    const page = await openPage(daemon.url);
    const field = page.getByLabel("API key");
    await field.fill("nobody-has-this");
    await page.keyboard.press("Enter");
    await page.getByText("nobody has this API key").waitFor();
    expect(await findings(page)).toEqual([]);
    await field.fill(keyOf("admin"));
    await page.keyboard.press("Enter");
    await isLive(page);
    await page.locator(".caller", { hasText: "adminer" }).waitFor();
    const kept = "[location.href, document.cookie, localStorage.length, sessionStorage.length]";
    expect(await page.evaluate(kept)).toEqual([`${daemon.url}/`, "", 0, 1]);
    await page.reload();
    await isLive(page);
    await page.getByRole("button", { name: "Forget the key" }).click();
    await field.waitFor();
    expect(await page.evaluate("sessionStorage.length")).toBe(0);
  });

  test("what a key may not see or do is not there", async () => {
    const daemon = await started({ config: WITH_KEYS });
    const body = { service_name: "own", ttl: "1h" };
    await daemon.call("POST", "/gpu/allocate", body, { "X-API-Key": keyOf("allocate") });
    const offered = async (role: string) => {
      const page = await openPage(daemon.url, { key: keyOf(role) });
      await isLive(page);
      await page.locator("#leases tbody tr").waitFor();
      // Each says whose it is: not everybody sees the row that it stands in.
      const buttons = ["Ask for GPUs", "Drain the host", "Release own", "Revoke own"];
      const counts = buttons.map((name) => page.getByRole("button", { name, exact: true }).count());
      return [...(await Promise.all(counts)), await page.locator("#deliveries").count()];
    };
    expect(await offered("read")).toEqual([0, 0, 0, 0, 0]);
    expect(await offered("allocate")).toEqual([1, 0, 1, 0, 0]);
    expect(await offered("admin")).toEqual([1, 1, 0, 1, 1]);
  });
});
