import { describe, expect, test } from "vitest";
import { nodesSeen } from "../../src/controller/kubernetes/pods.ts";
import { isSameToUs, Sameness } from "../../src/controller/kubernetes/sameness.ts";
import type { KubeObject } from "../../src/controller/kubernetes/watch.ts";

function node(heartbeat: string, change: object = {}): KubeObject {
  const metadata = { name: "n1", uid: "n1", resourceVersion: heartbeat, creationTimestamp: "2026-01-01T00:00:00Z" };
  const conditions = [{ type: "Ready", status: "True", lastHeartbeatTime: heartbeat }];
  return { metadata, spec: {}, status: { allocatable: { "nvidia.com/gpu": "8" }, conditions, ...change } };
}

function pod(name: string, version = "1"): KubeObject {
  const labels = { "llm-orchestrator.io/workload": "chat", "llm-orchestrator.io/revision": "r" };
  const metadata = { name, namespace: "ns", uid: name, labels, creationTimestamp: "2026-01-01T00:00:00Z" };
  return {
    metadata: { ...metadata, resourceVersion: version },
    spec: { nodeName: "n1", containers: [{ resources: { limits: { "nvidia.com/gpu": "1" } } }] },
    status: { phase: "Running" },
  };
}

describe("what has not changed since the last look", () => {
  test("is the same nodes, whatever a kubelet writes into them, until one of them is another to us", () => {
    const same = new Sameness();
    const first = same.nodes(nodesSeen([node("1")], []));
    expect(same.nodes(nodesSeen([node("2")], []))).toBe(first);
    const taken = same.nodes(nodesSeen([node("3")], [pod("one")]));
    expect(taken).not.toBe(first);
    expect(taken[0]).toMatchObject({ usedGpus: 1, isEmpty: false });
    expect(same.nodes(nodesSeen([node("4")], [pod("one", "2")]))).toBe(taken);
    expect(same.nodes([])).toEqual([]);
  });

  test("is the same replicas, until a pod comes, goes or changes", () => {
    const same = new Sameness();
    const [one, two] = [pod("one"), pod("two")];
    const look = (...pods: KubeObject[]) => same.tracks(new Map([["ns/chat", pods]]))("ns/chat");
    const first = look(one, two);
    expect(first[0]?.replicas).toHaveLength(2);
    expect(look(one, two)).toBe(first);
    expect(look(one)).not.toBe(first);
    const again = look(one, two);
    expect(look(one, pod("two", "2"))).not.toBe(again);
    // Of a workload without pods, too: it is asked at each look.
    expect(same.tracks(new Map())("ns/none")).toBe(same.tracks(new Map())("ns/none"));
  });

  test("of a node is told from what somebody decides by", () => {
    expect(isSameToUs(node("1"), node("2"))).toBe(true);
    expect(isSameToUs(node("1"), node("2", { allocatable: { "nvidia.com/gpu": "7" } }))).toBe(false);
    expect(isSameToUs(node("1"), node("2", { conditions: [{ type: "Ready", status: "Unknown" }] }))).toBe(false);
    expect(isSameToUs(node("1"), { ...node("2"), spec: { unschedulable: true } })).toBe(false);
  });
});
