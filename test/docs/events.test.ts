import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { END_REASONS } from "../../src/core/model/allocation.ts";
import { EVENT_BODIES, RESET_BODY } from "../../src/wire/events/answers.ts";

test("docs/events.md lists every event and every field, and no other", () => {
  const text = readFileSync(new URL("../../docs/events.md", import.meta.url), "utf8");
  const [, ...sections] = text.slice(text.indexOf("\n## The events\n")).split("\n### ");
  const documented = sections.map((section) => {
    const name = section.slice(0, section.indexOf("\n"));
    const rows = [...section.matchAll(/^\| (`[^|]*`) \|/gm)].map(([, cell]) => cell as string);
    return [name, rows.flatMap((cell) => [...cell.matchAll(/`([a-z_]+)`/g)].map(([, field]) => field)).sort()];
  });
  const told = Object.entries({ ...EVENT_BODIES, reset: RESET_BODY }).map(([name, schema]) => {
    return [name, Object.keys(schema.shape).sort()];
  });
  expect(documented).toEqual(told);
  const ended = sections.find((section) => section.startsWith("ended\n"));
  for (const reason of END_REASONS) expect(ended).toContain(`\`${reason}\``);
});
