/**
 * Writes the table of predicted beside published memory into docs/memory-model.md: `npm run memory-table`. It needs
 * the shared measurements (`published.json`); a test finds a table that no longer agrees with the model.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { DOCUMENT, withTable } from "./table.ts";

const document = readFileSync(DOCUMENT, "utf8");
writeFileSync(DOCUMENT, withTable(document));
