/** The help of each verb, from the program itself. */
import type { Command } from "commander";
import { expect, test } from "vitest";
import { GROUPS } from "../../src/cli/cli.ts";
import { EVENT_TYPES } from "../../src/cli/event-types.ts";
import { programOf } from "../../src/cli/program.ts";
import { EVENT_BODIES } from "../../src/wire/events/answers.ts";

const WIDTH = 80;
const ROWS = 24;

interface Helped {
  /** With the words before it: `cluster apply`. */
  readonly name: string;
  readonly lines: readonly string[];
}

function helpOf(command: Command, name: string): Helped {
  let text = "";
  command.configureOutput({ writeOut: (part) => (text += part), getOutHelpWidth: () => WIDTH });
  command.outputHelp();
  return { name, lines: text.trimEnd().split("\n") };
}

function within(command: Command, before = ""): Helped[] {
  return command.commands
    .filter((one) => !["help", "keeper"].includes(one.name()))
    .flatMap((one) => {
      const name = `${before}${one.name()}`;
      return [helpOf(one, name), ...within(one, `${name} `)];
    });
}

const all = within(programOf(GROUPS));

test("is there of every verb, those of a cluster among them", () => {
  const names = all.map(({ name }) => name);
  for (const name of ["run", "serve", "completion", "cluster apply", "crds", "manifests"])
    expect(names).toContain(name);
  expect(names.length).toBeGreaterThan(55);
});

test.each(all)("of $name begins with an example of it, and fits a screen", ({ name, lines }) => {
  expect(lines[0]).toMatch(new RegExp(`^Example: (?:eval "\\$\\()?gpuo ${name}\\b`));
  expect(lines.length).toBeLessThanOrEqual(ROWS);
  for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(100);
});

test("the types of events that the command line knows are those that the daemon tells", () => {
  expect(EVENT_TYPES.toSorted()).toEqual(Object.keys(EVENT_BODIES).toSorted());
});
