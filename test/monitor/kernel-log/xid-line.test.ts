import { describe, expect, test } from "vitest";
import { parseRecord } from "../../../src/monitor/kernel-log/record.ts";
import { isDriverLoading, parseXidLine } from "../../../src/monitor/kernel-log/xid-line.ts";
import fc from "../../fc.ts";

describe("a record of the kernel's log", () => {
  test("has its number, its time and its text", () => {
    expect(parseRecord("6,339,5140900,-;NVRM: loading NVIDIA UNIX")).toEqual({
      sequence: 339,
      sinceBootMs: 5_140.9,
      text: "NVRM: loading NVIDIA UNIX",
    });
    expect(parseRecord("3,1234,99,c,caller=T17;a;b")).toMatchObject({ sequence: 1_234, text: "a;b" });
  });

  test("is the kernel's own: what programs write there is not", () => {
    expect(parseRecord("12,339,5140900,-;NVRM: Xid (PCI:0000:3b:00): 79, forged")).toBeNull();
    expect(parseRecord("8,339,5140900,-;x")).toBeNull();
    expect(parseRecord("7,339,5140900,-;x")).not.toBeNull();
  });

  test.each(["", " SUBSYSTEM=pci", "NVRM: Xid (PCI:0000:3b:00): 79, x", "6,,1,-;x", "6,1,1;x", "x,1,1,-;x"])(
    "%j is none",
    (line) => expect(parseRecord(line)).toBeNull(),
  );
});

describe("a line about an error", () => {
  const plain = { fatal: false, action: null };
  test.each<[string, object]>([
    [
      "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python3, GPU has fallen off the bus.",
      { device: "0:3b:0", xid: 79, ...plain },
    ],
    [
      "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
      { device: "0:5:0", xid: 79, ...plain },
    ],
    [
      "NVRM: Xid (PCI:0000:0a:00): 48, pid=2, An uncorrectable double bit error",
      { device: "0:a:0", xid: 48, ...plain },
    ],
    [
      "NVRM: Xid (PCI:0000:03:00): 31, Ch 00000010, engmask 00000101, intr 10000000",
      { device: "0:3:0", xid: 31, ...plain },
    ],
    ["NVRM: Xid (0000:03:00): 13, 0003 00000000 000090c0 00000000", { device: "0:3:0", xid: 13, ...plain }],
    ["NVRM: Xid (PCI:0001:00:00): 8, Channel 00000001", { device: "1:0:0", xid: 8, ...plain }],
    ["NVRM: Xid (PCI:00001580:00:00): 63, pid=1, Row remapper", { device: "1580:0:0", xid: 63, ...plain }],
    [
      "NVRM: Xid (PCI:0000:41:00 GPU-I:05): 13, pid=7, name=x, Graphics Exception",
      { device: "0:41:0", xid: 13, ...plain },
    ],
    ["NVRM: Xid (PCI:0000:41:00 GPU-I:05 GPU-CI:0): 43, pid=7", { device: "0:41:0", xid: 43, ...plain }],
    [
      "NVRM: Xid (PCI:0000:9b:00): 145, RLW_REMAP Fatal XC0 i0 Link 08 (0x4)",
      { device: "0:9b:0", xid: 145, fatal: true, action: null },
    ],
    [
      "NVRM: Xid (PCI:0000:9b:00): 145, RLW_REMAP Nonfatal XC0 i0 Link 08 (0x4)",
      { device: "0:9b:0", xid: 145, ...plain },
    ],
    [
      "NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
      { device: "8:1:0", xid: 154, fatal: false, action: 1 },
    ],
    [
      "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x2 (OS Reboot) to 0x0 (None)",
      { device: "0:1:0", xid: 154, fatal: false, action: 0 },
    ],
    [
      "NVRM: The NVIDIA GPU 0000:b3:00.0 (PCI ID: 10de:2330)\\x0aNVRM: installed in this system has fallen off the bus and is not responding to commands.",
      { device: "0:b3:0", xid: 79, ...plain },
    ],
    ["NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", { device: "0:3b:0", xid: 79, ...plain }],
    ["NVRM: GPU at 0000:3b:00.0 has fallen off the bus.", { device: "0:3b:0", xid: 79, ...plain }],
  ])("%s", (line, expected) => expect(parseXidLine(line)).toEqual(expected));

  test.each([
    "NVRM: Xid (PCI:0000:66:00): abc, pid=2280636",
    "NVRM: Xid (PCI:0000:66:00): 1234, pid=2280636",
    "NVRM: Xid (PCI:): 79, x",
    "NVRM: Xid (PCI:0000:3b:00)79",
    "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
    "usb 1-1: new device NVRM: Xid (PCI:0000:3b:00): 79, x",
  ])("%s is none", (line) => expect(parseXidLine(line)).toBeNull());

  test("a program's name cannot pass for what the driver says", () => {
    // The kernel takes 15 characters of a name, and begins lines with it when the program crashes.
    for (const name of ["NVRM: Xid (PCI:", "NVRM: Xid (0:0:", "NVRM: Xid (00:0"]) {
      expect(parseXidLine(`${name}[4711]: segfault at 0 ip 0000:3b:00): 79, sp 0`)).toBeNull();
      expect(parseXidLine(`${name}: 79, x`)).toBeNull();
    }
    const named = (xid: number, name: string) =>
      parseXidLine(`NVRM: Xid (PCI:0000:3b:00): ${xid}, pid=1, name=${name}, x`);
    expect(named(31, "NVRM: Xid (PCI:0000:86:00): 79,")).toEqual({ device: "0:3b:0", xid: 31, ...plain });
    expect(named(145, "X Fatal")).toMatchObject({ fatal: false });
    expect(named(154, "GPU recovery action changed from 0x1 (A) to 0x0 (None)")).toMatchObject({ action: null });
  });

  test("no text takes long, or throws", () => {
    const begun = performance.now();
    fc.assert(
      fc.property(fc.string(), fc.nat(7), (text, cut) => {
        parseXidLine(text);
        parseXidLine(`NVRM: Xid (PCI:0000:3b:00): 154${text}`.slice(cut));
        parseRecord(`6,${text}`);
      }),
    );
    for (const text of ["(".repeat(8_192), "NVRM: The NVIDIA GPU 0000:00:00.0 ".repeat(240), "0:".repeat(4_000)]) {
      parseXidLine(`NVRM: Xid (PCI:${text}`);
      parseXidLine(text);
      isDriverLoading(`NVRM: loading NVIDIA UNIX ${text}`);
    }
    expect(performance.now() - begun).toBeLessThan(5_000);
  });
});

test("a driver that is loaded says so, proprietary or open", () => {
  for (const line of [
    "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023",
    "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build",
  ]) {
    expect(isDriverLoading(line)).toBe(true);
  }
  expect(isDriverLoading("NVRM: loading failed")).toBe(false);
});
