/** What several replicas have answered, as one answer of the same form. */
import { expect, test } from "vitest";
import { mergedResponses } from "../../src/work/merge.ts";

const part = (more: object) =>
  JSON.stringify({ ok: true, model: "org/m", items: [], usage: { total_tokens: 5, latency_sec: 2 }, ...more });
const merged = (...parts: readonly (string | null)[]) => JSON.parse(mergedResponses(parts));

test("prompts come in their order again, tokens are added up, and who waited longest says how long it took", () => {
  const [even, odd] = [
    part({
      items: [
        { index: 0, output: "a" },
        { index: 1, output: "c" },
      ],
    }),
    part({ items: [{ index: 0, output: "b" }], usage: { total_tokens: 7, latency_sec: 3 } }),
  ];
  const { ok, model, items, usage } = merged(even, odd);
  expect([ok, model]).toEqual([true, "org/m"]);
  expect(items.map(({ output }: { output: string }) => output)).toEqual(["a", "b", "c"]);
  expect(usage).toEqual({ total_tokens: 12, latency_sec: 3 });
});

test("that nothing was computed is said of the whole when all say so; what they do not agree on is in the parts", () => {
  expect(merged(part({ simulated: true }), part({ simulated: true })).simulated).toBe(true);
  const mixed = merged(part({ simulated: true }), part({ model: "org/other" }));
  expect([mixed.simulated, mixed.model]).toEqual([undefined, undefined]);
  expect(mixed.replicas.map(({ model }: { model: string }) => model)).toEqual(["org/m", "org/other"]);
  expect(merged(part({}), null)).toMatchObject({ ok: false, replicas: [{ ok: true }, null] });
});
