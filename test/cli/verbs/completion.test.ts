/** What the shells are told to complete, asked of Bash itself. */
import { execFileSync, spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { GROUPS } from "../../../src/cli/cli.ts";
import { programOf } from "../../../src/cli/program.ts";
import { completion } from "../../../src/cli/verbs/completion.ts";

const hasBash = spawnSync("bash", ["-c", "complete"]).status === 0;
const program = programOf(GROUPS);

function completed(...words: readonly string[]): readonly string[] {
  const quoted = ["gpuo", ...words].map((word) => `'${word}'`).join(" ");
  const script = `${completion("bash", program)}\nCOMP_WORDS=(${quoted}); COMP_CWORD=${words.length}; _gpuo; echo "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["-c", script], { encoding: "utf8" }).trim().split(" ");
}

test.skipIf(!hasBash).each([
  [["sta"], ["status"]],
  [["status", "--w"], ["--watch"]],
  [["cluster", "ro"], ["rollout"]],
  [["keys", ""], expect.arrayContaining(["create", "list", "revoke"])],
  [["reservations", "c"], ["cancel"]],
  [["completion", "z"], ["zsh"]],
])("%j is completed (needs bash)", (words, expected) => {
  expect(completed(...words)).toEqual(expected);
});

test("a shell that there is not is refused with those that there are", () => {
  expect(() => completion("tcsh", program)).toThrow("expected bash, zsh or fish");
  expect(completion("fish", program)).toContain('seen_subcommand_from cluster" -f -a "apply workloads ');
});
