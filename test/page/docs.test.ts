/** The page at `/docs`, used as somebody would who tries the API for the first time. */
import type { Page } from "playwright-core";
import { afterAll, describe, expect, test } from "vitest";
import { closeBrowser, missing, openPage, started } from "./browser.ts";

/** What needs nothing that is not there yet: each must work as it stands in its form. */
const FIRST_CALLS = ["planAllocation", "analyzeWorkload", "allocate", "release"] as const;
/** Of work, of which the host must run some. */
const WORK_CALLS = ["submitTask", "createWorkload"] as const;
const WORK =
  "work: { enabled: true, allow_unauthenticated: true, allow_root: true, allow_same_user: true, " +
  "executors: { echo: { type: echo } } }\n";
const KEYS = "auth: { enabled: true, api_keys: { a-key-of-a-test: tester } }\n";

afterAll(closeBrowser);

async function openDocs(url: string): Promise<Page> {
  const page = await openPage(`${url}/docs#`);
  // It draws the whole API anew with every press: on a busy machine that takes its time.
  page.setDefaultTimeout(60_000);
  await page.locator(".opblock").first().waitFor();
  return page;
}

/** @returns the status that the page shows, after "Try it out" and "Execute". */
async function execute(page: Page, operation: string): Promise<string> {
  const block = page.locator(`.opblock[id$="-${operation}"]`);
  await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Try it out" }).click();
  await block.getByRole("button", { name: "Execute" }).click();
  const status = block.locator(".live-responses-table .response-col_status").last();
  await status.waitFor();
  return (await status.innerText()).trim();
}

describe.skipIf(missing !== null)(`/docs in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  test("calls begin with values that work when Execute is pressed", { timeout: 600_000 }, async () => {
    const daemon = await started({ config: WORK });
    const page = await openDocs(daemon.url);
    const answers: [string, string][] = [];
    for (const call of [...FIRST_CALLS, ...WORK_CALLS]) answers.push([call, await execute(page, call)]);
    expect(answers).toEqual([
      ...FIRST_CALLS.map((call) => [call, "200"]),
      ...[
        ["submitTask", "200"],
        ["createWorkload", "201"],
      ],
    ]);
  });

  test("there is a padlock where a key is asked for, and none where it is not", { timeout: 120_000 }, async () => {
    const open = await openDocs((await started()).url);
    expect(await open.locator(".authorize, .authorization__btn").count()).toBe(0);
    const keyed = await openDocs((await started({ config: KEYS })).url);
    expect(await keyed.locator(".auth-wrapper .authorize").count()).toBe(1);
    expect(await keyed.locator(".authorization__btn").count()).toBeGreaterThan(FIRST_CALLS.length);
  });
});
