/** `GET /gpu/audit` in lines: where the next page is. */
import { expect, test } from "vitest";
import { NO_AUDIT } from "../../../src/ports/audit.ts";
import { startDaemon } from "../daemon.ts";

test("the next page's link asks the same question, and no other where none was asked", async () => {
  const daemon = await startDaemon({ audit: { ...NO_AUDIT, audit: () => ({ entries: [], next: 7 }) } });
  const linkOf = async (path: string) => {
    const { headers } = await daemon.call("GET", path, { headers: { accept: "application/jsonl" } });
    return headers.link;
  };
  expect(await linkOf("/gpu/audit")).toBe('<?before=7>; rel="next"');
  expect(await linkOf("/gpu/audit?principal=ann&before=9")).toBe('<?principal=ann&before=7>; rel="next"');
});
