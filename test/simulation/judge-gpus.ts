/** Judges what the journal says of GPUs, event by event, before the books take it over. */
import type { Event } from "../../src/core/host/events.ts";
import type { AllocationId, GpuUuid } from "../../src/core/model/ids.ts";
import type { GpuReading } from "../../src/core/model/reading.ts";
import type { Books, Causes, GpuBook, Sight } from "./books.ts";
import { isPutOff } from "./judge-notices.ts";
import type { AdminWord } from "./ops.ts";
import { MOODS } from "./simulated-driver.ts";
import type { TurnSeen } from "./turn-seen.ts";
import { breach, fault } from "./violation.ts";

/** MiB above the level before a grant at which memory still counts as given back, as the contract has it settle. */
const SETTLED_SLACK_MIB = 64;

type Of<T extends Event["type"]> = Extract<Event, { type: T }>;

/** The use that a lease was made of was seen before it was one. */
export function judgeUse(
  books: Books,
  causes: Causes,
  turn: TurnSeen,
  { uuid, allocationId: id }: Of<"use-seen">,
): void {
  const isAdopted = turn.newcomers.has(id) && books.live.get(id)?.request.adoption !== undefined;
  const gpu = known(books, uuid);
  const use = useOf(gpu, id);
  if (use === undefined || use.inUse) fault(`${uuid} is newly in use by a lease, and ${gpu.hold}`);
  const shown = causes.sights.some((sight) => {
    const mood = sight.moods.get(uuid);
    if (mood === undefined || (sight.startedAt < use.since && !isAdopted)) return false;
    return MOODS[mood].inUse || (MOODS[mood].usedMib ?? 0) > use.baselineMib + SETTLED_SLACK_MIB;
  });
  if (!shown) fault(`${uuid} is in use, which no reading has shown`);
}

export function judgeUseGone(books: Books, causes: Causes, uuid: GpuUuid, id: AllocationId): void {
  const gpu = known(books, uuid);
  const use = useOf(gpu, id);
  if (use === undefined || !use.inUse) fault(`${uuid} is in use no more, and was not: ${gpu.hold}`);
  const shown = causes.sights.some((sight) => {
    const mood = sight.moods.get(uuid);
    if (mood === undefined || sight.startedAt < use.since) return false;
    // Beside others a process that is there may be one of theirs.
    const mayBeOthers = gpu.hold === "shared" && gpu.shares.size + gpu.remains.size > 1;
    // Memory without a process, or of a desktop, may have been there before, and is told by its amount.
    const { processes = [] }: Partial<GpuReading> = MOODS[mood].shows;
    if (processes.some(({ type }) => type !== "G") && !mayBeOthers) return false;
    return (MOODS[mood].usedMib ?? Infinity) <= use.baselineMib + SETTLED_SLACK_MIB;
  });
  if (!shown) fault(`${uuid} is in use no more, which no reading has shown`);
}

/** What is seen of a lease on a GPU that it holds; `undefined`: it does not. */
function useOf(gpu: GpuBook, id: AllocationId): Pick<GpuBook, "inUse" | "since" | "baselineMib"> | undefined {
  if (gpu.hold === "shared") return gpu.shares.get(id);
  return gpu.hold === "leased" ? gpu : undefined;
}

/** A lease has settled when it was in use for long enough, or has had its time. */
export function judgeSettling(
  books: Books,
  causes: Causes,
  { uuid, allocationId, at, seen }: Extract<Event, { type: "memory-settled" }>,
): void {
  const share = known(books, uuid).shares.get(allocationId);
  if (share === undefined || share.settled || share.startedAt === null) fault(`${allocationId} settles on ${uuid}`);
  const lasted = at - share.startedAt;
  const isRight = causes.policies.some(({ sharing: { settleAfterMs, settleTimeoutMs } }) =>
    seen ? share.inUse && lasted >= settleAfterMs : lasted >= settleTimeoutMs,
  );
  if (!isRight) fault(`${allocationId} has settled after ${lasted} ms, ${seen ? "in use" : "not seen"}`);
}

/** 6: only a reading begun after the end can show that no more is in use than the others may have. */
export function judgeReturn(books: Books, causes: Causes, uuid: GpuUuid, id: AllocationId): void {
  const gpu = known(books, uuid);
  const gone = gpu.remains.get(id);
  if (gone === undefined) fault(`${id} gives back ${uuid}, and has left nothing`);
  const others = [...gpu.shares.values(), ...gpu.remains.values()].reduce((sum, { mib }) => sum + mib, -gone.mib);
  const emptyMib = Math.max(gpu.baselineMib + SETTLED_SLACK_MIB, 512, Math.ceil(gpu.totalMib * 0.02));
  const shown = causes.sights.some((sight) => {
    const mood = sight.moods.get(uuid);
    if (mood === undefined || sight.startedAt < gone.since) return false;
    return (MOODS[mood].usedMib ?? Infinity) <= emptyMib + others;
  });
  if (!shown) breach(6, `${id} was not seen to have left ${uuid}`);
}

/** Of a lease that is alone on its GPU, as nobody here names his process. */
export function judgeOutgrowth(
  books: Books,
  { uuid, id, usedMib, reservedMib }: Extract<Event, { type: "went-over-memory" }>,
): void {
  const { shares, remains } = known(books, uuid);
  const share = shares.get(id);
  if (share === undefined || share.over) fault(`${id} outgrows ${uuid} again`);
  if (shares.size !== 1 || remains.size > 0) fault(`${id} is said to outgrow ${uuid}, and is not alone there`);
  if (usedMib <= reservedMib || share.mib !== reservedMib) fault(`${id} has ${usedMib} MiB of ${reservedMib}`);
}

/** 6: only a reading begun after the end can show that nothing of the lease is left. */
export function judgeFreeing(books: Books, causes: Causes, uuid: GpuUuid): void {
  const gpu = known(books, uuid);
  if (gpu.hold !== "reclaiming" && gpu.hold !== "quarantined") fault(`${uuid} was freed while it was ${gpu.hold}`);
  if (!causes.sights.some((sight) => isSeenEmpty(uuid, gpu, sight))) breach(6, `${uuid} was not seen empty`);
}

function isSeenEmpty(uuid: GpuUuid, gpu: GpuBook, sight: Sight): boolean {
  const mood = sight.moods.get(uuid);
  if (mood === undefined || mood === "ghost" || sight.startedAt < gpu.since || MOODS[mood].inUse) return false;
  const { usedMib } = MOODS[mood];
  // Little enough is nobody's: every mood but the desktop's and those in use shows next to nothing.
  return usedMib !== null && (usedMib < 512 || usedMib <= gpu.baselineMib + SETTLED_SLACK_MIB);
}

export function judgeQuarantine(books: Books, causes: Causes, turn: TurnSeen, uuid: GpuUuid): void {
  const gpu = known(books, uuid);
  const isGhost = causes.sights.some(({ moods }) => moods.get(uuid) === "ghost");
  if (gpu.hold === "free" && isGhost) return;
  if (gpu.hold === "shared") {
    const oldest = Math.min(...[...gpu.remains.values()].map(({ since }) => since));
    if (!causes.policies.some(({ reclaimTimeoutMs }) => turn.at >= oldest + reclaimTimeoutMs)) {
      fault(`${uuid}, which is shared, was quarantined ${turn.at - oldest} ms after a lease`);
    }
    return;
  }
  if (gpu.hold !== "reclaiming") fault(`${uuid} was quarantined while it was ${gpu.hold}`);
  if (!causes.policies.some(({ reclaimTimeoutMs }) => turn.at >= gpu.since + reclaimTimeoutMs)) {
    fault(`${uuid} was quarantined ${turn.at - gpu.since} ms after its lease`);
  }
}

/** Of a GPU that nobody holds, said once and taken back once. */
export function judgeForeignUse(
  books: Books,
  causes: Causes,
  { type, uuid }: Of<"gpu-foreign-use" | "gpu-foreign-use-over">,
): void {
  const gpu = known(books, uuid);
  if (gpu.foreign !== (type === "gpu-foreign-use-over")) fault(`${type} ${uuid} was said twice`);
  if (type === "gpu-foreign-use-over") return;
  if (gpu.hold !== "free") fault(`${uuid} is ${gpu.hold}, and so not used without a lease`);
  if (causes.policies.every(({ foreignUse }) => foreignUse === "exclude")) fault(`nobody wants to hear of ${uuid}`);
  const shown = causes.sights.some(({ moods }) => MOODS[moods.get(uuid) ?? "idle"].inUse);
  if (!shown) fault(`${uuid} is used without a lease, which no reading has shown`);
}

/** Said once, and taken back once. */
export function judgeLoss(
  books: Books,
  { type, uuid, allocationId }: Extract<Event, { type: "gpu-lost" | "gpu-back" }>,
): void {
  const gpu = known(books, uuid);
  if (gpu.lost === (type === "gpu-lost")) fault(`${type} ${uuid} was said twice`);
  if ((allocationId !== null) !== (gpu.hold === "leased" || gpu.hold === "shared"))
    fault(`${type} ${uuid} names ${allocationId}: ${gpu.hold}`);
}

const WORD_OF = {
  "gpu-cordoned": "cordon",
  "gpu-uncordoned": "uncordon",
  "quarantine-cleared": "clear-quarantine",
  "gpu-removed": "remove-gpu",
} as const satisfies Record<string, AdminWord>;

export function judgeAdminWord(
  books: Books,
  causes: Causes,
  turn: TurnSeen,
  { type, uuid, drainBy }: Extract<Event, { type: keyof typeof WORD_OF }>,
): void {
  const gpu = known(books, uuid);
  const isDrained = type === "gpu-cordoned" && causes.adminWords.has(`drain ${uuid}`);
  if (type === "gpu-cordoned" && isPutOff(gpu.drainBy, drainBy, turn)) return;
  // What a GPU was cut into is removed with it.
  const named = type === "gpu-removed" ? [uuid, gpu.mig?.parentUuid ?? uuid] : [uuid];
  if (!isDrained && !named.some((name) => causes.adminWords.has(`${WORD_OF[type]} ${name}`))) {
    fault(`${type} ${uuid}: no admin had said so`);
  }
  const isQuarantined = gpu.hold === "quarantined" || (gpu.hold === "shared" && gpu.overdue);
  if (type === "quarantine-cleared" && !isQuarantined) fault(`${uuid} was cleared while ${gpu.hold}`);
  if (type !== "gpu-removed") return;
  if (gpu.hold !== "free" && gpu.hold !== "quarantined") breach(6, `${uuid} was removed while ${gpu.hold}`);
  if (causes.sights.every(({ moods }) => moods.has(uuid))) fault(`${uuid} was removed while it could be seen`);
}

function known(books: Books, uuid: GpuUuid): GpuBook {
  return books.gpus.get(uuid) ?? fault(`${uuid} is not in the inventory`);
}
