/** Judges grants by what MIG makes of one GPU: devices that stand on the same silicon, some of which share memory. */
import type { Request } from "../../src/core/model/allocation.ts";
import type { AllocationId, GpuUuid } from "../../src/core/model/ids.ts";
import type { Books, Causes, GpuBook } from "./books.ts";
import { takenOfInstanceMib } from "./simulated-driver.ts";
import type { TurnSeen } from "./turn-seen.ts";
import { breach, fault } from "./violation.ts";

/** An instance that is gone from a GPU which reads well is forgotten after so long; the figure of docs/mig.md. */
const FORGOTTEN_AFTER_MS = 10 * 60_000;

/** What was granted of a GPU that is cut. */
export type PartOfMig = "an instance" | "several instances" | "memory that others have a part of";

/** 1: a GPU is not leased whole and in part, nor is the memory of an instance promised twice. */
export function judgeInstances(
  books: Books,
  causes: Causes,
  id: AllocationId,
  uuids: readonly GpuUuid[],
): readonly PartOfMig[] {
  const { request } = books.live.get(id) as { request: Request };
  for (const uuid of uuids) judgeSilicon(books, request, uuid);
  const instances = uuids.filter((uuid) => books.gpus.get(uuid)?.mig != null);
  if (instances.length === 0) {
    if (request.migProfile !== null) fault(`${id} asked for ${request.migProfile} and has ${uuids.join(", ")}`);
    return [];
  }
  if (instances.length < uuids.length) fault(`${id} has whole GPUs and instances: ${uuids.join(", ")}`);
  if (request.sharing === "shared") fault(`${id} shares an instance: ${uuids.join(", ")}`);
  if (request.migProfile === null && uuids.length > 1) fault(`${id} has several instances, and named no profile`);
  for (const uuid of uuids) {
    const { mig } = books.gpus.get(uuid) as GpuBook;
    if (request.migProfile !== null && mig?.profile !== request.migProfile) fault(`${id} has ${uuid}: ${mig?.profile}`);
  }
  if (request.adoption !== undefined) return ["an instance"];
  const isBeside = uuids.map((uuid) => judgeMemory(books, causes, request, uuid, uuids)).includes(true);
  const count = uuids.length > 1 ? "several instances" : "an instance";
  return isBeside ? [count, "memory that others have a part of"] : [count];
}

/** What stands on the same silicon must be free, and so must what shares memory and may still have some. */
function judgeSilicon(books: Books, { id, adoption }: Request, uuid: GpuUuid): void {
  const { mig } = books.gpus.get(uuid) as GpuBook;
  if (mig !== null) {
    const parent = books.gpus.get(mig.parentUuid);
    if (parent !== undefined && parent.hold !== "free") breach(1, `${id} has ${uuid} of a GPU that is ${parent.hold}`);
    // A cordon keeps nobody from adopting what runs already.
    if (parent?.cordoned && adoption === undefined) breach(6, `${id} was granted ${uuid} of a GPU that is cordoned`);
  }
  for (const [other, { hold, mig: its }] of books.gpus) {
    if (its === null || other === uuid) continue;
    if (mig === null && its.parentUuid === uuid && (hold === "leased" || hold === "reclaiming")) {
      breach(1, `${id} has ${uuid}, of which ${other} is ${hold}`);
    }
    if (isSharer(mig, its) && hold === "reclaiming") breach(6, `${id} has ${uuid}, and ${other} may still have memory`);
  }
}

/** @returns whether others have a part of the memory. */
function judgeMemory(
  books: Books,
  { sights }: Causes,
  request: Request,
  uuid: GpuUuid,
  uuids: readonly GpuUuid[],
): boolean {
  const { mig, totalMib } = books.gpus.get(uuid) as GpuBook;
  const sharers = [...books.gpus].filter(([other, gpu]) => other !== uuid && isSharer(mig, gpu.mig));
  const askedMib = request.requirement.memoryMib;
  let promisedMib = askedMib;
  for (const [other, { hold }] of sharers) {
    if (uuids.includes(other)) promisedMib += askedMib;
    else if (hold === "leased") promisedMib += holderOf(books, other).requirement.memoryMib;
  }
  if (promisedMib > totalMib) breach(1, `${request.id} has ${uuid}: ${promisedMib} MiB of ${totalMib} are promised`);
  const seenMib = sights.map(({ moods }) => {
    return sharers.reduce((sum, [other]) => sum + takenOfInstanceMib(moods.get(other) ?? "idle instance"), 0);
  });
  if (Math.min(...seenMib) + askedMib > totalMib) {
    breach(1, `${request.id} has ${uuid}: others use ${seenMib.at(-1)} MiB of ${totalMib}`);
  }
  return promisedMib > askedMib;
}

function holderOf(books: Books, uuid: GpuUuid): Request {
  for (const { request, lease } of books.live.values()) {
    if (lease?.gpus.some((gpu) => gpu.uuid === uuid)) return request;
  }
  return fault(`nobody holds ${uuid}, which is leased`);
}

function isSharer(one: GpuBook["mig"], other: GpuBook["mig"]): boolean {
  if (one === null || other === null) return false;
  return one.parentUuid === other.parentUuid && one.gpuInstanceId === other.gpuInstanceId;
}

/** Only what has been destroyed is forgotten, and only once it has been gone for long enough. */
export function judgeForgetting(books: Books, causes: Causes, turn: TurnSeen, uuid: GpuUuid): void {
  const gpu = books.gpus.get(uuid) ?? fault(`${uuid} is forgotten, and was not known`);
  if (gpu.mig === null) fault(`${uuid} is forgotten, and is a whole GPU`);
  if (gpu.hold === "leased") fault(`${uuid} is forgotten, and leased`);
  if (causes.sight.moods.has(uuid)) fault(`${uuid} is forgotten, and was shown by the latest reading`);
  const goneMs = turn.at - causes.lastShownAt(uuid);
  if (goneMs < FORGOTTEN_AFTER_MS) fault(`${uuid} is forgotten ${goneMs} ms after it was shown`);
}
