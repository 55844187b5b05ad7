import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { reloadable } from "../../src/config/reload.ts";
import { configOf, problemsIn } from "./load-text.ts";

const OFFICE = `
windows:
  - name: office
    schedule: "0 9 * * 1-5"
    time_zone: Europe/Berlin
    duration: 9h
    gpus: 2
    for: {workload_types: [inference]}
`;

test("a window is read with its name, its calendar, its GPUs and its members", () => {
  expect(configOf(OFFICE).windows.reserved).toEqual([
    {
      name: "office",
      schedule: "0 9 * * 1-5",
      timeZone: "Europe/Berlin",
      durationMs: 9 * 3_600_000,
      gpus: 2,
      members: [{ services: [], principals: [], workloadTypes: ["inference"] }],
      spans: [],
    },
  ]);
});

test("GPUs may be named by index and UUID, and members be of several kinds", () => {
  const [window] = configOf(`
windows:
  - name: night
    schedule: "@daily"
    time_zone: UTC
    duration: 90m
    gpus: [0, GPU-abc, "3"]
    for: [{services: [trainer], principals: [alice, bob]}, {workload_types: [ocr, embedding]}]
`).windows.reserved;
  expect(window?.gpus).toEqual(["0", "GPU-abc", "3"]);
  expect(window?.members).toEqual([
    { services: ["trainer"], principals: ["alice", "bob"], workloadTypes: [] },
    { services: [], principals: [], workloadTypes: ["ocr", "embedding"] },
  ]);
});

test("there are none unless they are given, and a reload takes new ones at once", () => {
  const old = configOf("windows:\n");
  expect(old.windows.reserved).toEqual([]);
  const { config, ignored } = reloadable(old, configOf(OFFICE));
  expect(ignored).toEqual([]);
  expect(config.windows.reserved.map(({ name }) => name)).toEqual(["office"]);
});

test("everything wrong with windows is said at once, each where it stands", () => {
  const problems = problemsIn(`windows:
  - {name: a, schedule: "0 9 * * 1-5", time_zone: Europe/Berlin, duration: 9h, gpus: 2, for: {workload_types: [ocr]}}
  - {name: a, schedule: "0 25 * * 1-8", time_zone: Europe/Berln, duration: 9, gpus: two, fr: 1, for: {}}
  - name: b b
    schedule: "0 0 9 * * *"
    duration: 32d
    gpus: []
    for: [{service: [x]}]
  - nonsense
`);
  expect(problems).toEqual([
    "FILE:3:12 windows.1.name: window 0 has that name",
    expect.stringMatching(/^FILE:3:25 windows\.1\.schedule: .* where this is wrong: hour "25", dayOfWeek "1-8"$/),
    expect.stringMatching(/^FILE:3:52 windows\.1\.time_zone: expected the name of a time zone .*"Europe\/Berln"$/),
    expect.stringMatching(/^FILE:3:76 windows\.1\.duration: .*did you mean "9s"/),
    expect.stringMatching(/^FILE:3:85 windows\.1\.gpus: expected a number of GPUs, or a list .*"two"$/),
    "FILE:3:90 windows.1.fr: unknown key (did you mean for?)",
    "FILE:3:102 windows.1.for.0: is for nobody: it needs services, principals or workload_types",
    expect.stringMatching(/^FILE:4:5 windows\.2\.time_zone: expected the name of a time zone .*nothing$/),
    expect.stringMatching(/^FILE:4:11 windows\.2\.name: expected a name/),
    expect.stringMatching(/^FILE:5:15 windows\.2\.schedule: .* got six, and seconds are not among them$/),
    'FILE:6:15 windows.2.duration: must be between 1m and 31d, got "32d"',
    "FILE:7:11 windows.2.gpus: names no GPU",
    "FILE:8:12 windows.2.for.0.service: unknown key (did you mean services?)",
    expect.stringMatching(/^FILE:9:5 windows\.3: expected a window with its name/),
  ]);
});

test("a window that opens all the time is refused, and so are too many of them", () => {
  expect(problemsIn(OFFICE.replace("0 9 * * 1-5", "*/20 * * * *"))).toEqual([
    "FILE:4:15 windows.0.schedule: opens 72 times a day, more than 48",
  ]);
  const items = Array.from({ length: 17 }, (_, n) => `  - {name: w${n}}`).join("\n");
  expect(problemsIn(`windows:\n${items}\n`)).toEqual([expect.stringContaining("holds 17 windows, more than 16")]);
});

test("the windows that the guide shows are taken as they stand there", () => {
  const guide = readFileSync(new URL("../../docs/windows.md", import.meta.url), "utf8");
  const example = /```yaml\n(.*?)```/s.exec(guide)?.[1] ?? "";
  expect(configOf(example).windows.reserved.map(({ name, gpus }) => [name, gpus])).toEqual([
    ["office", 2],
    ["nightly-training", ["4", "5", "6", "7"]],
  ]);
});
