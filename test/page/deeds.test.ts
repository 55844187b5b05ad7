/** Each deed asks first, wants the reason where one is kept, and does what it says. */
import type { Page } from "playwright-core";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../e2e/daemon.ts";
import { Receiver } from "../e2e/receiver.ts";
import { FakeNvidiaSmi } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument } from "../fixtures/nvidia-smi-document.ts";
import { card, closeBrowser, missing, openHost } from "./browser.ts";

afterAll(closeBrowser);

/** Fills in the dialog that asks, and confirms it. One of a GPU may be below it, with a button of the same name. */
async function confirm(page: Page, verb: string, fields: Record<string, string>): Promise<void> {
  const dialog = page.getByRole("dialog").filter({ has: page.locator('button[type="submit"]') });
  const button = dialog.getByRole("button", { name: verb, exact: true });
  if ("Reason" in fields) {
    // Without the reason nothing is sent.
    await button.click();
    await dialog.locator("textarea:user-invalid").waitFor();
  }
  for (const [label, value] of Object.entries(fields)) await dialog.getByLabel(label).fill(value);
  await button.click();
  await dialog.waitFor({ state: "detached" });
}

async function closeDialog(page: Page): Promise<void> {
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

async function openCard(page: Page, index: number): Promise<void> {
  await card(page, index).getByRole("button").first().click();
}

/** A GPU that the driver does not count any more has no index. */
async function openCardOf(page: Page, state: string): Promise<void> {
  await page.locator("#gpus .card", { hasText: state }).getByRole("button").first().click();
}

describe.skipIf(missing !== null)(`the page in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  test("a GPU is cordoned, uncordoned and drained, the host is drained, each with the reason that is given", async () => {
    const { daemon, page } = await openHost();
    const cordon = async () => (await daemon.call("GET", "/gpu/status")).body.gpus[1].cordon;
    const does = async (verb: string, fields: Record<string, string>) => {
      await openCard(page, 1);
      await page.getByRole("dialog").getByRole("button", { name: verb, exact: true }).click();
      await confirm(page, verb, fields);
      await closeDialog(page);
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

  test("a stranger's use becomes a lease, a ghost's quarantine is cleared, and a lost GPU is struck off", async () => {
    const used = { memoryUsedMib: 9_000, processes: [{ pid: 4_242, usedMemoryMib: 9_000 }] };
    const gpus: SmiGpu[] = [used, { utilizationPercent: 100 }, { memoryUsedMib: "GPU is lost" }];
    const smi = new FakeNvidiaSmi({ mode: "text", text: smiDocument({ gpus }) });
    onTestFinished(() => smi[Symbol.dispose]());
    const config =
      `monitoring: { nvidia_smi_path: ${smi.path}, refresh_interval: 1s, timeout: 5s }\n` +
      "allocator: { foreign_use: adopt }\n";
    const { daemon, page } = await openHost({ simulate: null, config });
    const does = async (index: number, state: string, verb: string, fields: Record<string, string>) => {
      await card(page, index).getByText(state, { exact: true }).waitFor();
      await openCard(page, index);
      await page.getByRole("dialog").getByRole("button", { name: verb, exact: true }).click();
      await confirm(page, verb, fields);
      await closeDialog(page);
    };
    await does(0, "occupied", "Adopt", { Reason: "was here first", Service: "ann-notebook", "For at most": "8h" });
    await page.locator("#leases tbody tr", { hasText: "ann-notebook" }).getByText("adopted").waitFor();
    const { body } = await daemon.call("GET", "/gpu/list");
    expect(body.allocations).toMatchObject([{ adopted: true, adoption_reason: "was here first", gpu_ids: [0] }]);
    await does(1, "quarantined", "Clear", { Reason: "seen in person" });
    await page.locator("#events li", { hasText: "GPU 1 is out of quarantine by anonymous: seen in person" }).waitFor();
    // Gone from the bus too: what the driver lists would come back.
    smi.tell({ mode: "text", text: smiDocument({ gpus: gpus.slice(0, 2) }) });
    await eventually(
      () => daemon.call("GET", "/gpu/status"),
      (status) => /missing/.test(status.body.gpus.at(-1).reason),
    );
    await openCardOf(page, "lost");
    await page.getByRole("dialog").getByRole("button", { name: "Strike off", exact: true }).click();
    await confirm(page, "Strike off", { Reason: "sold" });
    await page.locator("#gpus .card").nth(2).waitFor({ state: "detached" });
    expect((await daemon.call("GET", "/gpu/status")).body.gpus).toHaveLength(2);
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
    await closeDialog(page);
    await page.getByRole("button", { name: "Ask for GPUs" }).click();
    await dialog.getByLabel("Service").fill("second");
    await dialog.getByText("Waits, at position 1").waitFor();
    await dialog.getByRole("button", { name: "Ask for them" }).click();
    await dialog.getByText("In the queue").waitFor();
    await closeDialog(page);
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
    await confirm(page, "Send again", { Reason: "its receiver lost it" });
    await eventually(
      async () => receiver.received.length,
      (count) => count === 2,
      15_000,
    );
    const { body } = await daemon.call("GET", "/gpu/audit");
    expect(body.entries).toContainEqual(expect.objectContaining({ reason: "its receiver lost it" }));
  });
});
