// The man page of the command line, from what its own --help says, so that it cannot lag behind.
import { execFileSync } from "node:child_process";

export function manualPage(program, version) {
  const help = (...args) => execFileSync(process.execPath, [program, ...args], { encoding: "utf8" });
  const whole = help("--help");
  const verbs = [...whole.matchAll(/^ {2}([a-z][a-z-]*) {2,}\S/gm)].map(([, name]) => name);
  return [
    `.TH GPUO 1 "" "gpu-orchestrator ${version}"`,
    ".SH NAME",
    "gpuo, gpu\\-orchestrator \\- lease the GPUs of a host",
    ".SH SYNOPSIS",
    ".B gpuo run \\-g 2 \\-\\- python train.py",
    ".br",
    ".B gpuo",
    ".I verb",
    "[options]",
    ".SH VERBS",
    ...verbatim(whole),
    ".SH CONNECTION",
    ...verbatim(help("help", "connection")),
    ...verbs.flatMap((verb) => [`.SH GPUO ${verb.toUpperCase()}`, ...verbatim(help(verb, "--help"))]),
    "",
  ].join("\n");
}

function verbatim(text) {
  const lines = text.trimEnd().split("\n");
  return [
    ".nf",
    ...lines.map((line) =>
      line
        .replaceAll("\\", "\\e")
        .replaceAll("-", "\\-")
        .replace(/^([.'])/, "\\&$1"),
    ),
    ".fi",
  ];
}
