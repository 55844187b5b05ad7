/** Which GPU or allocation is meant: by index, UUID or id, or the beginning of one that only one has. */
import type { Client } from "../client/client.ts";
import { ApiProblem } from "../client/errors.ts";
import type { Allocation, Gpu, List } from "../client/types.ts";
import { NoSuchError } from "./exits.ts";

const MAX_NAMED = 12;

/** No beginning of a UUID: on a host of 8 GPUs, 9 is none, whichever UUID begins so. */
const INDEX = /^\d{1,4}$/;

/** The GPU, or that of the MIG instance, that a name is of; the UUID is the device's own. */
export function gpuNamed(name: string, gpus: readonly Gpu[]): { readonly gpu: Gpu; readonly uuid: string } {
  const devices = gpus.flatMap((gpu) => [
    { gpu, uuid: gpu.uuid },
    ...gpu.mig_devices.flatMap(({ uuid }) => (uuid === null ? [] : [{ gpu, uuid }])),
  ]);
  const isIndex = INDEX.test(name);
  const byIndex = devices.filter(({ gpu, uuid }) => isIndex && gpu.uuid === uuid && gpu.id === Number(name));
  const byName = devices.filter(({ uuid }) => uuid === name);
  const byBeginning = devices.filter(
    ({ uuid }) => !isIndex && (startsWith(uuid, name) || startsWith(uuid.replace(/^(?:GPU|MIG)-/, ""), name)),
  );
  const found = [byIndex, byName, byBeginning].find((some) => some.length > 0) ?? [];
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  const there = gpus.map(({ id, uuid }) => `${id} (${uuid.slice(0, 12)})`);
  throw new NoSuchError(
    found.length > 1
      ? `${name}: ${found.length} GPUs begin so; give more of the UUID`
      : `no GPU "${name}"; there are ${some(there)}`,
  );
}

/** A GPU where the name is of one; else the id of an allocation. */
export async function eitherNamed(name: string, list: List, client: Client) {
  if (INDEX.test(name) || /^(?:GPU|MIG)-/i.test(name)) return gpuNamed(name, list.gpus);
  try {
    return { id: await allocationNamed(name, client, list) };
  } catch (error) {
    if (!(error instanceof NoSuchError)) throw error;
    try {
      return gpuNamed(name, list.gpus);
    } catch (other) {
      throw new NoSuchError(`${error.message}; ${(other as Error).message}`);
    }
  }
}

/** The GPUs of `--gpu 1,GPU-5c`, as an allocate takes them; nothing for none. */
export async function exactGpus(text: string | undefined, client: Client): Promise<{ gpus?: string[] }> {
  if (text === undefined) return {};
  const names = text.split(",").map((name) => name.trim());
  const { gpus } = await client.list();
  return { gpus: names.map((name) => gpuNamed(name, gpus).uuid) };
}

/** The full id of an allocation. What is live is looked at first, then the records of what has ended. */
export async function allocationNamed(name: string, client: Client, live?: List): Promise<string> {
  try {
    return (await client.record(name)).id;
  } catch (error) {
    if (!(error instanceof ApiProblem) || error.code !== "allocation-not-found") throw error;
  }
  const { allocations, queue } = live ?? (await client.list());
  const ids = [...allocations, ...queue].map(({ id }) => id);
  let found = ids.filter((id) => matches(id, name));
  if (found.length === 0) {
    const { allocations: ended } = await client.records({ limit: 1_000 });
    found = ended.map(({ id }) => id).filter((id) => matches(id, name));
  }
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  throw new NoSuchError(
    found.length > 1
      ? `${name}: ${found.length} allocations begin so: ${some(found)}`
      : `no allocation "${name}"; ${ids.length === 0 ? "nothing is leased, and nothing waits" : `there are ${some(ids)}`}`,
  );
}

/** Ids are long and differ at their end: their last part will do too. */
function matches(id: string, name: string): boolean {
  return startsWith(id, name) || startsWith(id.slice(id.lastIndexOf("-") + 1), name);
}

function startsWith(text: string, beginning: string): boolean {
  return text.toLowerCase().startsWith(beginning.toLowerCase());
}

function some(names: readonly string[]): string {
  return names.length <= MAX_NAMED
    ? names.join(", ")
    : `${names.slice(0, MAX_NAMED).join(", ")} and ${names.length - MAX_NAMED} more`;
}

export function gpusOf({ devices = [] }: Pick<Allocation, "devices">): string {
  return devices.map(({ index, mig }) => (mig === null ? String(index) : `${index}:${mig.gpu_instance_id}`)).join(",");
}
