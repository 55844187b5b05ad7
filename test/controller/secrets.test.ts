/** What of a spec is shown, and what comes back of it. */
import { expect, test } from "vitest";
import { changedDraft } from "../../src/controller/api/drafts.ts";
import { deploymentView } from "../../src/controller/api/views.ts";
import { LEFT_OUT, shownConfig } from "../../src/controller/objects/secrets.ts";
import { deploymentRow } from "../../src/controller/store/projection.ts";
import { workload } from "./objects.ts";

const CONFIG = {
  max_num_seqs: 8,
  tokenizer: "org/tokenizer",
  kv_transfer_config: { kv_connector: "x", extra: [{ redis_password: "canary-1", port: 6_379 }] },
  api_key: ["canary-2"],
};
const of = workload({ engine: { config: CONFIG } });

test("secret settings of an engine are left out however deep they stand, in answers and in the tables", () => {
  expect(shownConfig(CONFIG)).toEqual({
    ...CONFIG,
    kv_transfer_config: { kv_connector: "x", extra: [{ redis_password: LEFT_OUT, port: 6_379 }] },
    api_key: LEFT_OUT,
  });
  expect(JSON.stringify(deploymentView(of))).not.toContain("canary");
  expect(JSON.stringify(deploymentRow(of))).not.toContain("canary");
});

test("what was left out is as it was when somebody sends back what was shown", () => {
  const shown = deploymentView(of).vllm_config;
  const { spec } = changedDraft(of, { vllm_config: { ...shown, max_num_seqs: 16 } });
  expect(spec.engine?.config).toEqual({ ...CONFIG, max_num_seqs: 16 });
});
