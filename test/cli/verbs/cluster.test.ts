import { expect, test } from "vitest";
import { detailOf } from "../../../src/cli/verbs/cluster.ts";

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
