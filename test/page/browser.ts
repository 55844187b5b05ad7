/** A real Chromium before the built daemon. */
import { existsSync } from "node:fs";
import { type Browser, chromium, type Locator, type Page } from "playwright-core";
import { expect, onTestFinished } from "vitest";
import { type DaemonOptions, isBuilt, startDaemon, type TestDaemon } from "../e2e/daemon.ts";

const PROGRAM = "/usr/bin/chromium";
/** Nothing but the page: no profile's first steps, nothing fetched in the background. */
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Why tests of the page are skipped; `null`: they are not. `npm test` installs Chromium where it may. */
export const missing = !isBuilt
  ? "the program is not built"
  : existsSync(PROGRAM)
    ? null
    : "Chromium is not installed; npm test installs it as root on Debian";

/** What happens must be on the page within this, in ms, on a machine that has nothing else to do. */
const SOON_MS = 1_000;
/** So many looks of the page lie between what happens and what it shows, at most: see `soon`. */
const LOOKS = 8;
/** Between two looks, in ms. */
const LOOK_GAP_MS = 100;
const LIMIT_MS = 30_000;
/** What the page does to show something new: it asks the daemon, and draws. */
const LOOK = 'fetch("/gpu/list").then((answer) => answer.json()).then(() => new Promise(requestAnimationFrame))';

let launched: Promise<Browser> | null = null;

/** One browser for all tests of a file. */
export async function closeBrowser(): Promise<void> {
  const browser = await launched;
  launched = null;
  await browser?.close();
}

export interface OpenOptions {
  readonly key?: string;
  readonly width?: number;
  readonly height?: number;
  readonly dark?: boolean;
}

/**
 * Opens the page in a profile of its own. Whatever it complains of fails the test.
 *
 * @param atEnd takes what is to be done when the page is no longer needed.
 */
export async function openPage(
  url: string,
  { key, width = 1_280, height = 900, dark = false }: OpenOptions = {},
  atEnd: (end: () => Promise<void> | void) => void = onTestFinished,
) {
  launched ??= chromium.launch({ executablePath: PROGRAM, args: FLAGS });
  const browser = await launched;
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: dark ? "dark" : "light",
    reducedMotion: "reduce",
  });
  atEnd(() => context.close());
  if (key !== undefined) {
    await context.addInitScript((given: string) => sessionStorage.setItem("gpu-orchestrator-key", given), key);
  }
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error.stack)));
  page.on("console", (message) => {
    // A refusal is an answer: the page shows it. What the policy stops, or a script throws, is not one.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
      complaints.push(message.text());
    }
  });
  atEnd(() => expect(complaints).toEqual([]));
  await page.goto(`${url}/`);
  return page;
}

/** A daemon that ends with the test. */
export async function started(options: DaemonOptions = {}): Promise<TestDaemon> {
  const daemon = await startDaemon(options);
  onTestFinished(async () => {
    await daemon.end();
    daemon.removeFolder();
  });
  return daemon;
}

/** A daemon with a page before it that shows what is going on. */
export async function openHost(options: DaemonOptions = {}, open: OpenOptions = {}) {
  const daemon = await started(options);
  const page = await openPage(daemon.url, open);
  await isLive(page);
  return { daemon, page };
}

export async function isLive(page: Page): Promise<void> {
  await page.locator(".connection").getByText("live", { exact: true }).waitFor();
  await page.locator(".connection").getByText("database writes").waitFor();
}

/** Where a GPU is shown. */
export function card(page: Page, index: number) {
  return page.locator(`#gpus [data-gpu="${index}"]`);
}

/**
 * Fails unless that is on the page, or off it, within a second from now.
 *
 * Others may keep the machine busy. So the page is made to ask and draw all the while, beside what it does by itself, and
 * the slowest of these looks is allowed for, as often as it may come in between. Nothing that only looks now and then
 * passes: it is no slower for being late.
 */
export async function soon(what: Locator, state: "visible" | "detached" = "visible"): Promise<void> {
  const began = performance.now();
  let tookMs: number | null = null;
  const seen = what.waitFor({ state, timeout: LIMIT_MS }).then(() => {
    tookMs = performance.now() - began;
  });
  const looks = async () => {
    let slowestMs = 0;
    while (tookMs === null && performance.now() - began < LIMIT_MS) {
      const from = performance.now();
      // While there is no daemon to ask there is no look either.
      await what.page().evaluate(`${LOOK}.catch(() => null)`);
      slowestMs = Math.max(slowestMs, performance.now() - from);
      await new Promise((resolve) => setTimeout(resolve, LOOK_GAP_MS));
    }
    return slowestMs;
  };
  const [slowestMs] = await Promise.all([looks(), seen]);
  expect(tookMs, `a look took up to ${Math.round(slowestMs)} ms`).toBeLessThan(SOON_MS + LOOKS * slowestMs);
}

/** Does something, and fails unless the page shows `text` there soon after it was answered. */
export async function shows(what: Locator, text: string | RegExp, deed: Promise<unknown>) {
  await deed;
  await soon(what.filter({ hasText: text }).first());
}

export function post(daemon: TestDaemon, path: string, body: object) {
  return daemon.call("POST", path, body);
}

/** Goes on with the tab key until that has the focus. */
export async function tabTo(page: Page, name: RegExp): Promise<void> {
  for (let presses = 0; presses < 60; presses++) {
    await page.keyboard.press("Tab");
    const label = await page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent");
    if (name.test(String(label))) return;
  }
  throw new Error(`the tab key does not lead to ${name}`);
}
