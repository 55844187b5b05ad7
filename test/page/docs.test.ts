/** The page at `/docs`, used as somebody would who tries the API for the first time. */
import type { Page } from "playwright-core";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { serveApi } from "../controller/served-api.ts";
import { closeBrowser, missing, openPage, started } from "./browser.ts";
import { isPress, KEY, PRESSES, type Press, startBusy } from "./docs-calls.ts";

/** Calls of anybody, whom nobody asks for a key. */
const OPEN_CALLS = ["planAllocation", "allocate"] as const;
const READ_KEY = "a-read-key-of-a-test";
const KEYS = `auth: { enabled: true, api_keys: { a-key-of-a-test: tester, ${READ_KEY}: { principal: reader, role: read } } }\n`;

afterAll(closeBrowser);

async function openDocs(url: string): Promise<Page> {
  const page = await openPage(`${url}/docs#`);
  // It draws all that is open anew with every press: on a busy machine that takes its time.
  page.setDefaultTimeout(120_000);
  await page.locator(".opblock").first().waitFor();
  return page;
}

/** Opens and closes chapters, by the name of their heading: of those that are closed nothing is drawn. */
const CHAPTERS = `(names) => {
  for (const heading of document.querySelectorAll(".opblock-tag")) {
    if ((heading.dataset.isOpen === "true") !== names.includes(heading.dataset.tag)) heading.click();
  }
}`;

async function show(page: Page, chapters: readonly string[]): Promise<void> {
  await page.evaluate(`(${CHAPTERS})(${JSON.stringify(chapters)})`);
}

/** The clicks of somebody, without the wait for a page at rest that a click of the driver's begins with: what is drawn moves. */
async function press(page: Page, operation: string, what: string): Promise<void> {
  await page.locator(`.opblock[id$="-${operation}"] ${what}`).first().dispatchEvent("click");
}

/** @returns the status that the page shows, after "Try it out" and "Execute". */
async function execute(page: Page, operation: string): Promise<number> {
  for (const what of [".opblock-summary-control", ".try-out__btn", ".execute"]) await press(page, operation, what);
  const status = page.locator(`.opblock[id$="-${operation}"] .live-responses-table .response-col_status`).last();
  const said = Number.parseInt((await status.textContent()) ?? "", 10);
  await press(page, operation, ".opblock-summary-control");
  return said;
}

/** Gives the page the key, as its dialogue asks for one. */
async function authorize(page: Page, key = KEY): Promise<void> {
  await page.locator(".auth-wrapper .authorize").click();
  await page.locator(".auth-container input").first().fill(key);
  await page.locator(".auth-btn-wrapper button.authorize").first().click();
  await page.locator(".auth-btn-wrapper .btn-done").first().click();
}

/** The document's chapter of every call. */
async function chaptersOf(url: string): Promise<Map<string, string>> {
  const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, { operationId: string; tags: string[] }>>;
  };
  const all = Object.values(paths).flatMap((item) => Object.values(item));
  return new Map(all.map(({ operationId, tags }) => [operationId, tags[0] as string]));
}

describe.skipIf(missing !== null)(`/docs in Chromium${missing === null ? "" : ` (${missing})`}`, () => {
  // Each press draws anew all that is open: four minutes for all. Over HTTP docs-calls.test.ts sends each of them always.
  const isLong = process.env.DOCS_PRESSES === "all";
  test.skipIf(!isLong)(
    "every call works when Execute is pressed, as its form begins (DOCS_PRESSES=all)",
    { timeout: 900_000 },
    async () => {
      const daemon = await startBusy();
      const chapters = await chaptersOf(daemon.url);
      const page = await openDocs(daemon.url);
      await show(page, []);
      await authorize(page);
      const answers: Press[] = [];
      for (const one of PRESSES) {
        if (isPress(one)) {
          await show(page, [chapters.get(one[0]) as string]);
          answers.push([one[0], await execute(page, one[0])]);
        } else await one.until(daemon);
      }
      expect(answers).toEqual(PRESSES.filter(isPress));
    },
  );

  test("what somebody has typed stays, whatever is answered elsewhere", { timeout: 300_000 }, async () => {
    const daemon = await started();
    const page = await openDocs(daemon.url);
    await show(page, [(await chaptersOf(daemon.url)).get("allocate") as string]);
    for (const what of [".opblock-summary-control", ".try-out__btn"]) await press(page, "release", what);
    const form = page.locator('.opblock[id$="-release"] textarea.body-param__text');
    await form.fill('{"typed": "by somebody"}');
    expect(await execute(page, "allocate")).toBe(200);
    expect(await form.inputValue()).toBe('{"typed": "by somebody"}');
  });

  test("without keys and without work it begins with what works, and asks for nothing that is refused", {
    timeout: 300_000,
  }, async () => {
    const daemon = await started();
    const chapters = await chaptersOf(daemon.url);
    const page = await openPage(daemon.url);
    const refused: string[] = [];
    page.on("response", (answer) => {
      if (answer.status() >= 400) refused.push(`${answer.status()} ${answer.url()}`);
    });
    await page.goto(`${daemon.url}/docs`);
    await page.locator(".opblock").first().waitFor();
    await show(
      page,
      OPEN_CALLS.map((call) => chapters.get(call) as string),
    );
    for (const call of OPEN_CALLS) expect([call, await execute(page, call)]).toEqual([call, 200]);
    expect(refused).toEqual([]);
  });

  test("the controller's begins with what works, too, and goes on with what was made", {
    timeout: 300_000,
  }, async () => {
    const api = await serveApi();
    onTestFinished(() => api.close());
    const page = await openDocs(api.url);
    const refused: string[] = [];
    page.on("response", (answer) => {
      if (answer.status() >= 400) refused.push(`${answer.status()} ${answer.url()}`);
    });
    const chapters = await chaptersOf(api.url);
    const calls = ["createDeployment", "readDeployment", "changeDeployment", "scaleModel", "deleteDeployment"];
    await show(page, [...new Set(calls.map((one) => chapters.get(one) as string))]);
    const answers: number[] = [];
    for (const one of calls) answers.push(await execute(page, one));
    expect(answers).toEqual([200, 200, 200, 202, 200]);
    expect(refused).toEqual([]);
    expect(api.store.workloads().map(({ metadata }) => metadata.deletionTimestamp !== null)).toEqual([true]);
  });

  test("with a key that may only read it asks for nothing that is refused", { timeout: 120_000 }, async () => {
    const daemon = await started({ config: KEYS });
    await daemon.call("POST", "/gpu/allocate", { service_name: "held" }, { "x-api-key": "a-key-of-a-test" });
    const page = await openDocs(daemon.url);
    const refused: string[] = [];
    page.on("response", (answer) => {
      if (answer.status() >= 400) refused.push(`${answer.status()} ${answer.url()}`);
    });
    // The last that it looks at.
    const looked = page.waitForResponse(/\/gpu\/allocations/);
    await authorize(page, READ_KEY);
    await looked;
    await page.waitForTimeout(1_000);
    expect(refused).toEqual([]);
  });

  test("there is a padlock where a key is asked for, and none where it is not", { timeout: 120_000 }, async () => {
    const open = await openDocs((await started()).url);
    expect(await open.locator(".authorize, .authorization__btn").count()).toBe(0);
    const keyed = await openDocs((await started({ config: KEYS })).url);
    expect(await keyed.locator(".auth-wrapper .authorize").count()).toBe(1);
    expect(await keyed.locator(".authorization__btn").count()).toBeGreaterThan(OPEN_CALLS.length);
  });
});
