/** Each deed asks first, wants the reason where one is kept, and does what it says. */
import type { Page } from "playwright-core";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../e2e/daemon.ts";
import { Receiver } from "../e2e/receiver.ts";
import { card, closeBrowser, missing, openHost } from "./browser.ts";

afterAll(closeBrowser);

/** Fills in the dialog that is on top, and confirms it. */
async function confirm(page: Page, verb: string, fields: Record<string, string>): Promise<void> {
  const dialog = page.getByRole("dialog").last();
  const button = dialog.getByRole("button", { name: verb, exact: true });
  if ("Reason" in fields) {
    // Without the reason nothing is sent.
    await button.click();
    await dialog.locator("textarea:invalid").waitFor();
  }
  for (const [label, value] of Object.entries(fields)) await dialog.getByLabel(label).fill(value);
  await button.click();
  await dialog.getByRole("button", { name: verb, exact: true }).waitFor({ state: "detached" });
}

async function openCard(page: Page, index: number): Promise<void> {
  await card(page, index).getByRole("button").first().click();
}

describe.skipIf(missing !== null)(`the page in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  test("a GPU is cordoned, uncordoned and drained, the host is drained, each with the reason that is given", async () => {
    const { daemon, page } = await openHost();
    const cordon = async () => (await daemon.call("GET", "/gpu/status")).body.gpus[1].cordon;
    const does = async (verb: string, fields: Record<string, string>) => {
      await openCard(page, 1);
      await page.getByRole("dialog").getByRole("button", { name: verb, exact: true }).click();
      await confirm(page, verb, fields);
      await page.keyboard.press("Escape");
    };
    await does("Cordon", { Reason: "loud fan" });
    expect(await cordon()).toMatchObject({ reason: "loud fan", drain_by: null });
    await card(page, 1).getByText("loud fan").waitFor();
    await does("Uncordon", { Reason: "quiet again" });
    expect(await cordon()).toBeNull();
    await card(page, 1).getByText("free", { exact: true }).waitFor();
    await does("Drain", { Reason: "to be moved", "Leases must be gone after": "30m" });
    expect((await cordon()).drain_by).not.toBeNull();
    await page.getByRole("button", { name: "Drain the host" }).click();
    await confirm(page, "Drain the host", { Reason: "new kernel" });
    await page.locator(".banner", { hasText: "new kernel" }).waitFor();
    await page.getByRole("button", { name: "End the drain" }).click();
    await confirm(page, "End the drain", { Reason: "done" });
    expect((await daemon.call("GET", "/gpu/list")).body.drain).toBeNull();
  });

  test("what is asked for by the form is what was foreseen beside it, and can be given back", async () => {
    const { daemon, page } = await openHost({ simulate: "h100x2" });
    await page.getByRole("button", { name: "Ask for GPUs" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Service").fill("trainer");
    await dialog.getByLabel("GPUs", { exact: true }).fill("3");
    await dialog.getByText("Refused").waitFor();
    await dialog.getByLabel("GPUs", { exact: true }).fill("2");
    await dialog.getByText("Granted now").waitFor();
    expect((await daemon.call("GET", "/gpu/list")).body.allocations).toEqual([]);
    await dialog.getByRole("button", { name: "Ask for them" }).click();
    await dialog.getByText("export CUDA_VISIBLE_DEVICES=").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Ask for GPUs" }).click();
    await dialog.getByLabel("Service").fill("second");
    await dialog.getByText("Waits, at position 1").waitFor();
    await dialog.getByRole("button", { name: "Ask for them" }).click();
    await dialog.getByText("In the queue").waitFor();
    await page.keyboard.press("Escape");
    const rows = { waiting: page.locator("#queue tbody tr"), held: page.locator("#leases tbody tr") };
    await rows.waiting.getByRole("button", { name: /Per GPU/ }).click();
    await page.getByText("held 2 GPUs: 0, 1").waitFor();
    await rows.waiting.getByRole("button", { name: "Revoke" }).click();
    await confirm(page, "Revoke", { Reason: "no longer wanted" });
    await page.getByText("Nobody waits.").waitFor();
    await rows.held.getByRole("button", { name: "Revoke" }).click();
    await confirm(page, "Revoke", { Reason: "maintenance" });
    await page.getByText("Nobody holds a GPU.").waitFor();
  });

  test("a webhook that was refused is sent again", async () => {
    const receiver = await Receiver.start();
    onTestFinished(() => receiver.stop());
    const { daemon, page } = await openHost({ simulate: "h100x1" });
    await daemon.allocate({ service_name: "told", ttl: "1s", webhook_url: receiver.url });
    await eventually(
      async () => receiver.received.length,
      (count) => count === 1,
      15_000,
    );
    const row = page.locator("#deliveries tbody tr", { hasText: "delivered" });
    await row.getByRole("button", { name: "Redeliver" }).click();
    await confirm(page, "Send again", {});
    await eventually(
      async () => receiver.received.length,
      (count) => count === 2,
    );
  });
});
