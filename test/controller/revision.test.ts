import { describe, expect, test } from "vitest";
import {
  earlier,
  numberFor,
  outdated,
  type Revision,
  revisionOf,
  revisionParts,
  specOf,
} from "../../src/controller/objects/revision.ts";
import { spec, workload } from "./objects.ts";
import { SqliteObjects } from "./sqlite-objects.ts";

const kept = (name: string, number: number): Revision => ({
  name,
  number,
  parts: { restartedAt: null },
  template: null,
  madeAt: "2026-01-01T00:00:00.000Z",
});

describe("revisions", () => {
  const known = [kept("a", 1), kept("b", 2), kept("c", 3)];

  test("have numbers that grow, and one that comes back gets a new one", () => {
    expect(numberFor("a", [])).toBe(1);
    expect(numberFor("d", known)).toBe(4);
    expect(numberFor("c", known)).toBe(3);
    expect(numberFor("a", known)).toBe(4);
  });

  test("are kept as many as are wanted, and those that run in any case", () => {
    expect(outdated(known, 2, new Set()).map(({ name }) => name)).toEqual(["a"]);
    expect(outdated(known, 1, new Set(["a"])).map(({ name }) => name)).toEqual(["b"]);
  });

  test("lead back to the one before, or to the one that is named, and nowhere else", () => {
    expect(earlier(known, "c", null)?.name).toBe("b");
    expect(earlier(known, "b", null)?.name).toBe("a");
    expect(earlier(known, "a", null)).toBeNull();
    expect(earlier(known, "c", 1)?.name).toBe("a");
    expect(earlier(known, "c", 3)).toBeNull();
    expect(earlier(known, "c", 9)).toBeNull();
  });

  test("give back what was started, and leave replicas and owner as they are", () => {
    const before = spec({ modelVersion: "7b", parameters: { a: "1" }, engine: { image: "vllm:1" } });
    const now = spec({ modelVersion: "13b", replicas: 3, tenant: "acme", qosClass: "premium" });
    const back = specOf(now, revisionParts({ annotations: {} }, before));
    expect(back).toEqual({ ...before, replicas: 3, tenant: "acme", qosClass: "premium" });
    expect(revisionOf({ annotations: {} }, back)).toBe(revisionOf({ annotations: {} }, before));
  });

  test("are the same when who may call changes, and another with another Secret", () => {
    const rules = { encryption: false, complianceLevel: "basic", dataClassification: "internal" } as const;
    const of = (more: object) => revisionOf({ annotations: {} }, spec({ security: { ...rules, ...more } }));
    expect(of({ accessControl: ["web"] })).toBe(revisionOf({ annotations: {} }, spec()));
    expect(of({ secretRefs: ["s"] })).not.toBe(of({}));
  });

  test("of one host stand in its database until their workload goes", async () => {
    const store = await SqliteObjects.open(":memory:");
    const { metadata, spec: of } = workload();
    const made = await store.put({ namespace: "default", name: metadata.name, labels: {}, annotations: {}, spec: of });
    await store.keepRevision(made, kept("a", 1));
    await store.keepRevision(made, kept("b", 2));
    await store.keepRevision(made, kept("a", 3));
    expect(store.revisions(made).map(({ name, number }) => [name, number])).toEqual([
      ["b", 2],
      ["a", 3],
    ]);
    expect(store.models()).toEqual([]);
    await store.dropRevision(made, kept("b", 2));
    expect(store.revisions(made)).toHaveLength(1);
    await store.forget(made);
    expect(store.revisions(made)).toEqual([]);
    await store.close();
  });
});
