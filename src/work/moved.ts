/**
 * Books by another clock: the wall clock was set between two processes of the daemon. What is still to come, or counted from,
 * is as far off, and as long ago, as it was; what has ended keeps the times that were shown.
 */
import type { HeldLease, Run, Slot } from "./model.ts";
import { isOver, isSettled, type StoredWork } from "./state.ts";

/** Open-ended: it is no instant. */
const NEVER = Number.MAX_SAFE_INTEGER;

export function movedBy(ms: number, { tasks, workloads, runs, workers, lastEpoch }: StoredWork): StoredWork {
  return {
    tasks: tasks.map((task) =>
      isOver(task) ? task : { ...task, slots: task.slots.map((slot) => movedSlot(ms, slot)) },
    ),
    workloads: workloads.map((workload) => ({
      ...workload,
      slots: workload.slots.map((slot) => movedSlot(ms, slot)),
    })),
    runs: runs.map((run) => (isSettled(run) ? run : movedRun(ms, run))),
    workers: workers.map((worker) => ({ ...worker, lastSeen: worker.lastSeen + ms })),
    // They only grow, by whatever clock.
    lastEpoch,
  };
}

function movedSlot(ms: number, slot: Slot): Slot {
  const { nextAt, kept, avoid } = slot;
  return {
    ...slot,
    nextAt: nextAt === null ? null : nextAt + ms,
    kept: movedLease(ms, kept),
    ...(avoid === undefined
      ? {}
      : { avoid: avoid.map((one) => ({ ...one, until: one.until === NEVER ? NEVER : one.until + ms })) }),
  };
}

function movedLease(ms: number, lease: HeldLease | null): HeldLease | null {
  return lease?.leftAt === undefined ? lease : { ...lease, leftAt: lease.leftAt + ms };
}

function movedRun(ms: number, run: Run): Run {
  const moved = (at: number | null) => (at === null ? null : at + ms);
  switch (run.phase) {
    case "waiting":
      return { ...run, createdAt: run.createdAt + ms, askAt: run.askAt + ms };
    case "assigned":
      return { ...run, createdAt: run.createdAt + ms, lease: movedLease(ms, run.lease) };
    case "ended":
      return run;
    case "stopping":
      return { ...run, createdAt: run.createdAt + ms, since: run.since + ms, ...onNode(run) };
    default:
      return { ...run, createdAt: run.createdAt + ms, ...onNode(run) };
  }

  function onNode({ handedOutAt, startedAt, readyAt }: Extract<Run, { readonly handedOutAt: number }>) {
    return { handedOutAt: handedOutAt + ms, startedAt: moved(startedAt), readyAt: moved(readyAt) };
  }
}
