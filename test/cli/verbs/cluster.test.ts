import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { type CrdOptions, detailOf, printCrds } from "../../../src/cli/verbs/cluster.ts";

const WELL = [
  { type: "Accepted", status: "True", reason: "Valid", message: "" },
  { type: "Ready", status: "True", reason: "AllReady", message: "2 of 2 replicas serve" },
  { type: "Stuck", status: "False", reason: "Moving", message: "" },
  { type: "ScalingActive", status: "False", reason: "ScaledByHand", message: "" },
  { type: "Drifted", status: "False", reason: "AsWanted", message: "" },
] as const;

test("nothing stands in the way of a workload that is as it is wanted", () => {
  expect(detailOf({ status: { conditions: WELL } })).toBe("");
});

test.each([
  ["Schedulable", "False", "NoRoom", "no node has 4 GPUs\nmore", "NoRoom: no node has 4 GPUs"],
  ["Stuck", "True", "NoProgress", "", "NoProgress"],
  ["Drifted", "True", "Changed", "by hand", "Changed: by hand"],
])("what stands in its way is told: %s %s", (type, status, reason, message, words) => {
  expect(detailOf({ status: { conditions: [...WELL, { type, status, reason, message }] } })).toBe(words);
});

const RULES = "x-kubernetes-validations";

/** A kubeconfig of a server that says that it is of this minor version. */
async function kubeconfigOf(minor: string): Promise<string> {
  const server = createServer((_, res) => res.end(JSON.stringify({ major: "1", minor })));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const folder = mkdtempSync(join(tmpdir(), "crds-"));
  onTestFinished(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  const file = join(folder, "config");
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = {
    "current-context": "c",
    contexts: [{ name: "c", context: { cluster: "k" } }],
    clusters: [{ name: "k", cluster: { server: at } }],
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

async function printed(options: CrdOptions): Promise<{ readonly out: string; readonly err: string }> {
  const told = { out: "", err: "" };
  const write = (where: keyof typeof told) => (text: unknown) => {
    told[where] += String(text);
    return true;
  };
  const spies = [
    vi.spyOn(process.stdout, "write").mockImplementation(write("out")),
    vi.spyOn(process.stderr, "write").mockImplementation(write("err")),
  ];
  try {
    await printCrds(options);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return told;
}

test("CRDs are printed as the server of the kubeconfig takes them, or as somebody says", async () => {
  const [old, young] = [await kubeconfigOf("24+"), await kubeconfigOf("36")];
  expect((await printed({ kubeconfig: old })).out).not.toContain(RULES);
  expect((await printed({ kubeconfig: young })).out).toContain(RULES);
  expect((await printed({ kubeconfig: old, cel: true })).out).toContain(RULES);
  expect((await printed({ kubeconfig: young, cel: false })).out).not.toContain(RULES);
});

test("where there is no server to ask the CRDs have their rules, and that is said; one that is named must answer", async () => {
  vi.stubEnv("HOME", "/nonexistent");
  vi.stubEnv("KUBECONFIG", "");
  vi.stubEnv("KUBERNETES_SERVICE_HOST", "");
  onTestFinished(() => void vi.unstubAllEnvs());
  const { out, err } = await printed({});
  expect(out).toContain(RULES);
  expect(err).toContain("no server was asked");
  await expect(printed({ kubeconfig: "/nonexistent/config" })).rejects.toThrow("--cel or --no-cel asks no server");
});
