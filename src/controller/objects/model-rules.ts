/** What is asked of an `LLMModel` before a workload may use it: its shape, whose it is, and whether its signature is true. */
import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import type { Breach } from "./breach.ts";
import { canonicalJson } from "./canonical.ts";
import { tenantOf } from "./meta.ts";
import { type Model, type ModelSpec, modelSpecSchema } from "./model.ts";
import type { Workload } from "./workload.ts";

/** Public keys of Ed25519, by their names: `modelRegistry.trustedKeys` of the settings. */
export type TrustedKeys = ReadonlyMap<string, KeyObject>;

/** `incomplete`: there is nothing that could be signed, since files lack a path, a size or a checksum. */
export type Signed = "none" | "unknown-key" | "incomplete" | "false" | "true";

type Read = { readonly spec: ModelSpec } | { readonly breaches: readonly Breach[] };

const known = new WeakMap<object, Read>();

/** Its spec, if it keeps the schema. An older CRD lets everything through. */
export function readModel(given: object): Read {
  const before = known.get(given);
  if (before !== undefined) return before;
  const parsed = modelSpecSchema.safeParse(given);
  const read = parsed.success
    ? { spec: parsed.data }
    : {
        breaches: parsed.error.issues.map(({ path, message }) => ({ path: ["spec", ...path].join("."), message })),
      };
  known.set(given, read);
  return read;
}

/** The model that a workload means: the oldest of its name and version. It is not read where the engine's is stated. */
export function modelOfWorkload(
  { modelName, modelVersion }: Pick<Workload["spec"], "modelName" | "modelVersion">,
  models: readonly Model[],
): Model | null {
  const [first = null] = models
    .filter(({ spec: { name, version } }) => name === modelName && version === modelVersion)
    .sort((a, b) => (ageOf(a) < ageOf(b) ? -1 : 1));
  return first;
}

function ageOf({ metadata: { creationTimestamp, name } }: Model): string {
  return `${creationTimestamp} ${name}`;
}

export function mayUse({ access }: ModelSpec, tenant: string): boolean {
  return access === undefined || access.public === true || access.tenants?.includes(tenant) === true;
}

export interface ModelRefused {
  readonly reason: "ModelInvalid" | "ModelForbidden" | "ModelSignature" | "NotYet";
  readonly message: string;
}

/** Why a workload may not use the model that it names; `null`: it may, or it names none of ours. */
export function modelRefusal(
  of: Pick<Workload["metadata"], "labels" | "namespace">,
  spec: Workload["spec"],
  models: readonly Model[],
  trusted: TrustedKeys,
): ModelRefused | null {
  const model = modelOfWorkload(spec, models);
  if (model === null) return null;
  const { name } = model.metadata;
  const read = readModel(model.spec);
  if ("breaches" in read) {
    const message = `LLMModel ${name}: ${read.breaches.map((one) => `${one.path}: ${one.message}`).join("; ")}`;
    return { reason: "ModelInvalid", message };
  }
  const tenant = tenantOf(of);
  if (!mayUse(read.spec, tenant)) {
    return { reason: "ModelForbidden", message: `the LLMModel ${name} is not for the tenant ${tenant}` };
  }
  if (signedBy(read.spec, trusted) === "false") {
    return { reason: "ModelSignature", message: `the signature of the LLMModel ${name} is not that of its files` };
  }
  const later = spec.engine?.model === undefined ? sourceNotYet(read.spec) : null;
  return later === null ? null : { reason: "NotYet", message: `LLMModel ${name}: ${later}` };
}

/** What its source asks for that this version does not do; `null`: nothing. */
export function sourceNotYet({ source }: ModelSpec): string | null {
  if (source === undefined || source.type === "hub") return null;
  return `source.type ${source.type} is not there yet; use hub, or state engine.model in the workload`;
}

/** What is signed: paths, sizes and checksums, in the order of the paths. `null`: there are none, or some are missing. */
export function signable({ files = [] }: Pick<ModelSpec, "files">): Buffer | null {
  const listed = files.map(({ path, size, checksum }) => ({ path, size, checksum }));
  if (listed.length === 0 || listed.some((file) => Object.values(file).includes(undefined))) return null;
  listed.sort((a, b) => (`${a.path}` < `${b.path}` ? -1 : 1));
  return Buffer.from(canonicalJson(listed));
}

const judged = new WeakMap<ModelSpec, { readonly trusted: TrustedKeys; readonly signed: Signed }>();

/** Once for each spec: it is asked at each look. */
export function signedBy(spec: ModelSpec, trusted: TrustedKeys): Signed {
  const before = judged.get(spec);
  if (before?.trusted === trusted) return before.signed;
  const signed = judgment(spec, trusted);
  judged.set(spec, { trusted, signed });
  return signed;
}

function judgment(spec: ModelSpec, trusted: TrustedKeys): Signed {
  const { signature } = spec;
  if (signature === undefined) return "none";
  const bytes = signable(spec);
  if (bytes === null) return "incomplete";
  const key = trusted.get(signature.keyId);
  if (key === undefined) return "unknown-key";
  return verify(null, bytes, key, Buffer.from(signature.value, "base64")) ? "true" : "false";
}

/** @throws Error where its files cannot be signed, or the key is none of Ed25519 */
export function signModel(spec: Pick<ModelSpec, "files">, keyId: string, key: KeyObject): ModelSpec["signature"] {
  const bytes = signable(spec);
  if (bytes === null) throw new Error("spec.files needs a path, a size and a checksum of each file");
  if (key.asymmetricKeyType !== "ed25519") throw new Error("the key is none of Ed25519");
  return { keyId, value: sign(null, bytes, key).toString("base64") };
}

/** As PEM. @throws Error if it is no public key of Ed25519 */
export function trustedKey(pem: string): KeyObject {
  const key = createPublicKey(pem);
  if (key.asymmetricKeyType !== "ed25519") throw new Error("expected a public key of Ed25519");
  return key;
}

/** Of the list of its files; `null`: there is none, or it is not whole. */
export function checksumOf(spec: ModelSpec): string | null {
  const bytes = signable(spec);
  return bytes === null ? null : `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
