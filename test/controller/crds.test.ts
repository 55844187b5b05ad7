/** The CRDs against the first seed's: whatever it took, ours take. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { crds } from "../../src/controller/kubernetes/crds.ts";

const SEED = "../shared/fixtures/cluster/s1/crd.yaml";
interface Schema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
  readonly required?: readonly string[];
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
}
interface Crd {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly scope: string;
    readonly names: object;
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
}

const schemaOf = ({ spec }: Crd) => spec.versions[0]?.schema.openAPIV3Schema as Schema;

/** Where ours would refuse, or lose, what the seed's takes. */
function narrower(seed: Schema, own: Schema | undefined, at: string): string[] {
  if (own === undefined) return [`${at} is not there`];
  if (own["x-kubernetes-preserve-unknown-fields"] === true) return [];
  const found: string[] = [];
  if (seed.type !== own.type) found.push(`${at} is ${own.type}, was ${seed.type}`);
  for (const word of seed.enum ?? []) if (own.enum?.includes(word) === false) found.push(`${at} lacks ${word}`);
  for (const name of own.required ?? [])
    if (!(seed.required ?? []).includes(name)) found.push(`${at} asks for ${name}`);
  for (const [name, inner] of Object.entries(seed.properties ?? {})) {
    found.push(...narrower(inner, own.properties?.[name], `${at}.${name}`));
  }
  if (seed.items !== undefined) found.push(...narrower(seed.items, own.items, `${at}[]`));
  return found;
}

describe("the CRDs", () => {
  test.skipIf(!existsSync(SEED))("take whatever the first seed's take, under its names (needs ../shared)", () => {
    const seed = parseAllDocuments(readFileSync(SEED, "utf8")).map((one) => one.toJS() as Crd);
    const own = crds(true) as unknown as readonly Crd[];
    expect(own.map(({ metadata, spec }) => [metadata.name, spec.scope])).toEqual(
      seed.map(({ metadata, spec }) => [metadata.name, spec.scope]),
    );
    for (const [index, one] of seed.entries()) {
      expect(narrower(schemaOf(one), schemaOf(own[index] as Crd), one.metadata.name)).toEqual([]);
    }
  });

  test("are structural: every part has a type, and none has what Kubernetes does not know", () => {
    const wrong: string[] = [];
    const walk = (schema: Schema, at: string) => {
      if (schema.type === undefined && schema["x-kubernetes-preserve-unknown-fields"] !== true)
        wrong.push(`${at}: no type`);
      if (schema.properties !== undefined && schema.additionalProperties !== undefined) wrong.push(`${at}: both kinds`);
      for (const key of Object.keys(schema))
        if (key.startsWith("$") || key === "propertyNames") wrong.push(`${at}: ${key}`);
      for (const [name, inner] of Object.entries(schema.properties ?? {})) walk(inner, `${at}.${name}`);
      if (schema.items !== undefined) walk(schema.items, `${at}[]`);
    };
    for (const one of crds(true)) walk(schemaOf(one as unknown as Crd), "");
    expect(wrong).toEqual([]);
  });

  test("bear their rules in CEL for a server that knows it, and none for one that does not", () => {
    expect(JSON.stringify(crds(true))).toContain("self.minReplicas <= self.maxReplicas");
    expect(JSON.stringify(crds(false))).not.toContain("x-kubernetes-validations");
  });
});
