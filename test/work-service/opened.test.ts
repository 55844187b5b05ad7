/** What a document may name, where the host has opened a program by one of its names. */
import { expect, test } from "vitest";
import { refusalOf } from "../../src/work/argv.ts";
import { readTask } from "../../src/work/documents/task.ts";
import { opened } from "../../src/work-service/opened.ts";
import { document, TASK_SETTINGS } from "../work/fixtures.ts";
import { BLANK } from "./hosts.ts";

const LINKS: Readonly<Record<string, string>> = {
  "/bin": "/usr/bin",
  "/usr/bin/python3": "/usr/bin/python3.13",
  "/usr/bin/java": "/usr/lib/jvm/17/bin/java",
  "/opt/tool/latest": "/opt/tool/v2",
  "/home/alice/python": "/usr/bin/python3.13",
};
const FILES = {
  realPath: (path: string) => LINKS[path] ?? path,
  linksIn: (folder: string) =>
    Object.keys(LINKS).flatMap((path) => (path.startsWith(`${folder}/`) ? [path.slice(folder.length + 1)] : [])),
};

function refused(program: string, command: string): boolean {
  const executors = opened({ process: { ...BLANK, type: "process", programs: [program] } }, FILES);
  const { spec } = readTask(document({ command: [command] }), TASK_SETTINGS);
  return refusalOf("task", spec, executors) !== null;
}

test("a program goes by its own name, by that which it links to, and by both of a folder that is a link", () => {
  expect(refused("/usr/bin/python3", "/usr/bin/python3.13")).toBe(false);
  expect(refused("/usr/bin/python3", "/bin/python3")).toBe(false);
  expect(refused("/bin/sh", "/usr/bin/sh")).toBe(false);
  expect(refused("/usr/bin/sh", "/bin/sh")).toBe(false);
});

test("a program goes by the links to it in its folder and in the host's own, but by no link of somebody else's", () => {
  expect(refused("/usr/bin/python3.13", "/usr/bin/python3")).toBe(false);
  expect(refused("/usr/bin/python3.13", "/bin/python3")).toBe(false);
  expect(refused("/usr/lib/jvm/17/bin/java", "/usr/bin/java")).toBe(false);
  expect(refused("/opt/tool/v2", "/opt/tool/latest")).toBe(false);
  expect(refused("/usr/bin/python3.13", "/home/alice/python")).toBe(true);
  expect(refused("/opt/tool/latest", "/usr/bin/python3")).toBe(true);
});

test("nothing else is opened with it", () => {
  for (const other of ["sh", "/usr/bin/bash", "/opt/bin/sh", "/usr/bin/sh/..", "/binsh"]) {
    expect(refused("/bin/sh", other), other).toBe(true);
  }
});
