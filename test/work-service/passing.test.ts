import { expect, test } from "vitest";
import { openedPath, signedPath } from "../../src/work-service/elsewhere/passing.ts";

const SECRET = Buffer.from("a-secret-of-more-than-16-bytes");
const NOW = 1_800_000_000_000;
const MINUTE_MS = 60_000;

test("a node gives what was signed with the cluster's secret, a few minutes long, and nothing that was changed since", () => {
  for (const path of ["/cluster/runs/r/logs", "/cluster/runs/r/logs?tail=5&follow=true"]) {
    const signed = signedPath(path, SECRET, NOW);
    expect(openedPath(signed, SECRET, NOW + MINUTE_MS)).toBe(path);
    expect(openedPath(signed, SECRET, NOW + 11 * MINUTE_MS)).toBeNull();
    expect(openedPath(signed, SECRET, NOW - 11 * MINUTE_MS)).toBeNull();
    expect(openedPath(signed, Buffer.from("another secret, long enough"), NOW)).toBeNull();
    expect(openedPath(signed.replace("/r/", "/s/"), SECRET, NOW)).toBeNull();
    expect(openedPath(signed.replace(/until=\d+/, `until=${NOW + 60 * MINUTE_MS}`), SECRET, NOW)).toBeNull();
    expect(openedPath(path, SECRET, NOW)).toBeNull();
  }
});
