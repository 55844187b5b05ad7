/** What came of the checks, as a page to be sent to whoever maintains the program. */
import type { Result } from "./checks.ts";

const MARKS = { ok: "ok", failed: "FAILED", skipped: "skipped" } as const;

export function lineOf({ name, verdict, seen, seconds }: Result): string {
  return [
    `${MARKS[verdict].padEnd(7)} ${name} (${seconds.toFixed(1)} s)`,
    ...seen.map((line) => `          ${line}`),
  ].join("\n");
}

export function reportOf(results: readonly Result[], about: { readonly version: string; readonly at: string }): string {
  const count = (verdict: Result["verdict"]) => results.filter((one) => one.verdict === verdict).length;
  return [
    "# gpu-orchestrator on a real GPU",
    "",
    `Version ${about.version}, ${about.at}, Node ${process.version}, ${process.platform} ${process.arch}.`,
    `${count("ok")} checks passed, ${count("failed")} failed, ${count("skipped")} were skipped.`,
    "",
    ...results.flatMap(({ name, verdict, seen, seconds }) => [
      `## ${name}: ${MARKS[verdict]}`,
      "",
      `${seconds.toFixed(1)} s`,
      "",
      ...seen.map((line) => `- ${line}`),
      "",
    ]),
  ].join("\n");
}
