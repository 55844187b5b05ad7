/** What the kernel's log says of GPUs, from its lines to what may be granted. Inputs of public reports, and of our own. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { blockOf, isolationOf } from "../../src/core/host/condition.ts";
import type { KernelNews } from "../../src/core/readings/xid.ts";
import { watchKernelLog } from "../../src/monitor/kernel-log/kernel-log.ts";
import { ManualClock } from "../../src/platform/clock.ts";
import { h100, SimulatedHost } from "../simulation/simulated-host.ts";
import { hasCases, readCase } from "./shared-case.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cases-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What is told of a log with this text. */
function read(text: string): KernelNews {
  const path = join(folder, "log");
  writeFileSync(path, text);
  const told: KernelNews[] = [];
  const log = watchKernelLog({
    path,
    clock: new ManualClock(Date.UTC(2026, 10, 30, 8)),
    sinceBootMs: () => 3_600_000,
    onNews: async (news) => void told.push(news),
  });
  log.stop();
  return told[0] as KernelNews;
}

/** A host with GPUs at these addresses, and what keeps each of them from being granted after the log was read. */
function blocksAfter(text: string, ...devices: string[]) {
  const host = new SimulatedHost(devices.map((device, n) => h100(`GPU-${n}`, { pciBusId: `0000${device}`, index: n })));
  host.do({ type: "read-kernel-log", news: read(text) });
  const gpus = host.state.gpus.values();
  const blocks = gpus.map((gpu) => blockOf(gpu, host.state, host.now));
  const isolations = gpus.map((gpu) => isolationOf(gpu, host.state));
  return { host, blocks, isolations };
}

const kmsg = (sequence: number, text: string) => `4,${sequence},${1_000_000 + sequence},-;${text}\n`;
const FALLEN = "NVRM: Xid (PCI:0000:03:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";

describe.skipIf(!hasCases)("public cases of kernel logs (read from ../shared, which is not here)", () => {
  test.each([
    ["k1-nvlink5-two-blanks", "0000:53:00.0", "Xid 149: NVLink error"],
    ["k2-xid158", "0000:75:00.0", "Xid 158: a timeout that is fatal to the GPU"],
    ["k5-xid154-imex", "0000:B9:00.0", "Xid 154: what must be done about the GPU has changed: recover imex domain"],
    ["k6-fallen-then-loading", "0000:B3:00.0", "Xid 79: the GPU has fallen off the bus"],
    ["k7-text-logs", "0000:03:00.0", "Xid 79: the GPU has fallen off the bus"],
    ["k8-other-fallen-words", "0000:03:00.0", "Xid 79: the GPU has fallen off the bus"],
  ])("%s quarantines the GPU, and no other", (name, device, detail) => {
    const { blocks } = blocksAfter(readCase(`kernel-log/${name}.txt`), device, "0000:FE:00.0");
    expect(blocks).toMatchObject([{ block: "quarantined", detail }, null]);
  });

  test.each([
    ...(hasCases ? readCase("kernel-log/k7-text-logs.txt").trim().split("\n") : []),
    ...(hasCases ? readCase("kernel-log/k8-other-fallen-words.txt").trim().split("\n") : []),
  ])("alone, too: %s", (line) => {
    expect(blocksAfter(`${line}\n`, "0000:03:00.0").blocks).toMatchObject([{ block: "quarantined" }]);
  });

  test("k9: after a fatal SXid every GPU of the fabric serves requests of one GPU only, and says why", () => {
    const { blocks, isolations, host } = blocksAfter(
      readCase("kernel-log/k9-sxid.txt"),
      "0000:03:00.0",
      "0000:04:00.0",
    );
    expect(blocks).toEqual([null, null]);
    const detail = "NVSwitch at 0:c1:0: SXid 20034, fatal";
    expect(isolations).toMatchObject([{ detail }, { detail }]);
    expect(host.whyQueued(host.submit({ requiredGpus: 2 }))).toEqual({ "GPU-0": "isolated", "GPU-1": "isolated" });
    expect(host.allocation(host.submit({ requiredGpus: 1 })).status).toBe("leased");
  });
});

test.each([
  ["blanks in columns", kmsg(1, "NVRM:  Xid (PCI:0000:03:00):  145,  RLW_REMAP   Fatal   XC0 i0 Link 08 (0x4)")],
  ["the program before the words", kmsg(1, "NVRM: Xid (PCI:0000:03:00): 145, pid=7, name=a, b, RLW_REMAP Fatal XC0")],
  ["the program after the words", kmsg(1, "NVRM: Xid (PCI:0000:03:00): 145, RLW_REMAP Fatal XC0, pid=7, name=a")],
  [
    "an action that is not known",
    kmsg(1, "NVRM: Xid (PCI:0000:03:00): 154, GPU recovery action changed from 0x0 (None) to 0x2a (Replace)"),
  ],
  [
    "a GPU that could not be brought to work",
    kmsg(1, "NVRM: GPU 0000:03:00.0: RmInitAdapter failed! (0x24:0x65:1404)"),
  ],
  ["dmesg", `[    1.000000] Linux version 6.1\n[ 1234.567890] ${FALLEN}\n`],
  ["dmesg -T", `[Mon Nov 30 07:00:00 2026] ${FALLEN}\n`],
  ["dmesg -x", `kern  :warn  : [ 1234.567890] ${FALLEN}\n`],
  ["dmesg --time-format iso", `2026-11-30T07:00:00,123456+00:00 ${FALLEN}\n`],
  ["syslog", `Nov 30 07:00:00 node kernel: ${FALLEN}\n`],
  ["syslog with ISO times", `2026-11-30T07:00:00.123456+00:00 node kernel: [ 1234.567890] ${FALLEN}\n`],
  ["journal export", `__CURSOR=s=1\n__REALTIME_TIMESTAMP=1796022000000000\n_TRANSPORT=kernel\nMESSAGE=${FALLEN}\n\n`],
  [
    "journal as JSON",
    `${JSON.stringify({ __REALTIME_TIMESTAMP: "1796022000000000", _TRANSPORT: "kernel", MESSAGE: FALLEN })}\n`,
  ],
  [
    "a record that a text log has cut into lines",
    "[ 12.5] NVRM: The NVIDIA GPU 0000:03:00.0 (PCI ID: 10de:26b5)\n" +
      "               NVRM: installed in this system has\n" +
      "               NVRM: fallen off the bus and is not responding to commands.\n",
  ],
])("read: %s", (_name, text) => {
  expect(read(text).problem).toBeNull();
  expect(blocksAfter(text, "0000:03:00.0", "0000:04:00.0").blocks).toMatchObject([{ block: "quarantined" }, null]);
});

test.each([
  ["a program's words in the journal", `__REALTIME_TIMESTAMP=1\n_TRANSPORT=stdout\nMESSAGE=${FALLEN}\n\n`],
  [
    "a program's words in a syslog",
    `Nov 30 07:00:00 node python[7]: ${FALLEN}\nNov 30 07:00:00 node kernel: eth0 up\n`,
  ],
  [
    "an NVLink error that is not fatal, of a program called so",
    kmsg(1, "NVRM: Xid (PCI:0000:03:00): 145, pid=7, name=x, A Fatal b, RLW Nonfatal XC0"),
  ],
  [
    "an NVSwitch error that is not fatal",
    kmsg(1, "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 22013, Non-fatal, Link 57"),
  ],
])("not taken for an error of a GPU: %s", (_name, text) => {
  const { blocks, isolations } = blocksAfter(text, "0000:03:00.0");
  expect([...blocks, ...isolations]).toEqual([null, null]);
});

test.each([
  ["prose", "All is well.\n"],
  ["a journal's own file", `LPKSHHRH${"\u0000".repeat(40_000)}`],
])("what cannot be read is said: %s", (_name, text) => {
  expect(read(`${text}`)).toMatchObject({ reports: [], problem: "its lines are of no form that is known" });
});

describe("a driver that is loaded", () => {
  const notFound =
    "NVRM: The NVIDIA GPU 0000:03:00.0 (PCI ID: 10de:26b5) installed in this system has fallen off the bus";
  const loading = "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.158.01  Release Build";
  const failed = "NVRM: The NVIDIA probe routine failed for 1 device(s).";
  const blockAfter = (...lines: string[]) =>
    blocksAfter(lines.map((line, n) => kmsg(n + 1, line)).join(""), "0000:03:00.0").blocks[0];

  test("answers what was before, and not what it met itself", () => {
    expect(blockAfter(FALLEN, loading)).toBeNull();
    expect(blockAfter(notFound, failed, loading)).toMatchObject({ block: "quarantined" });
    expect(blockAfter(FALLEN, notFound, failed, loading)).toMatchObject({ block: "quarantined" });
  });

  test("answers what an earlier load met, if it does not meet it again", () => {
    expect(blockAfter(notFound, failed, loading, loading)).toBeNull();
    const givenUp = "NVRM: None of the NVIDIA devices were initialized.";
    expect(blockAfter(notFound, failed, givenUp, loading)).toBeNull();
    expect(blockAfter(notFound, failed, loading, notFound, failed, loading)).toMatchObject({ block: "quarantined" });
  });
});
