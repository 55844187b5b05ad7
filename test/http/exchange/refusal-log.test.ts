import { expect, test } from "vitest";
import { RefusalLog } from "../../../src/http/exchange/refusal-log.ts";

const FACTS = { action: "POST /x", principal: "a", status: 429, code: "quota", detail: "" };

test("a client that is refused over and over fills twenty lines a second, and the next line says how many were left out", () => {
  const lines: object[] = [];
  const log = new RefusalLog((facts) => lines.push(facts));
  for (let ms = 0; ms < 1_000; ms++) log.refused(FACTS, 5_000 + ms);
  expect(lines).toHaveLength(20);
  log.refused(FACTS, 6_000);
  log.refused(FACTS, 6_001);
  expect(lines.slice(20)).toEqual([{ ...FACTS, left_out: 980 }, FACTS]);
});
