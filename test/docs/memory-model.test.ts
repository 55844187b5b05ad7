import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { hasPublished } from "../../bench/memory/figures.ts";
import { DOCUMENT, withTable } from "../../bench/memory/table.ts";

test.skipIf(!hasPublished)(
  "the table of predicted and published memory is what the model says (needs published.json, beside the project in development)",
  () => {
    const document = readFileSync(DOCUMENT, "utf8");
    expect(withTable(document)).toBe(document);
  },
);
