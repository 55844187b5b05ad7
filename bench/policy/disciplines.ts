/**
 * What others do, to compare with: all of them treat the host's GPUs as equal, and each request as wanting some of them
 * for a while.
 */
import type { Discipline } from "./replay.ts";
import { HOST_GPUS, type Job } from "./trace.ts";

/** Chooses from `waiting`, in order of submission, who starts at `now` on `free` GPUs beside those that run. */
type Choice = (waiting: readonly Job[], free: number, running: ReadonlyMap<Job, number>, now: number) => readonly Job[];

class Queueing implements Discipline {
  readonly #choose: Choice;
  #waiting: Job[] = [];
  /** With the instants of their ends. */
  readonly #running = new Map<Job, number>();
  #free = HOST_GPUS;

  constructor(choose: Choice) {
    this.#choose = choose;
  }

  submitted(job: Job, now: number): readonly Job[] {
    this.#waiting.push(job);
    return this.#start(now);
  }

  ended(job: Job, now: number): readonly Job[] {
    this.#running.delete(job);
    this.#free += job.gpus;
    return this.#start(now);
  }

  #start(now: number): readonly Job[] {
    if (this.#free === 0) return [];
    const started = new Set(this.#choose(this.#waiting, this.#free, this.#running, now));
    if (started.size === 0) return [];
    for (const job of started) {
      this.#running.set(job, now + job.durationMs);
      this.#free -= job.gpus;
    }
    this.#waiting = this.#waiting.filter((job) => !started.has(job));
    return [...started];
  }
}

/** First come, first served: nobody passes anybody. */
export function strict(): Discipline {
  return new Queueing(untilOneDoesNotFit);
}

function untilOneDoesNotFit(waiting: readonly Job[], free: number): readonly Job[] {
  let left = free;
  const end = waiting.findIndex((job) => {
    left -= job.gpus;
    return left < 0;
  });
  return end < 0 ? waiting : waiting.slice(0, end);
}

/** Whoever fits, in order of submission: what does not fit is skipped, however long it has waited. */
export function greedy(): Discipline {
  return new Queueing((waiting, free) => {
    const started: Job[] = [];
    let left = free;
    for (const job of waiting) {
      if (left === 0) break;
      if (job.gpus > left) continue;
      left -= job.gpus;
      started.push(job);
    }
    return started;
  });
}

/**
 * EASY backfill (Lifka, "The ANL/IBM SP scheduling system", 1995) that knows every true duration: the first that does
 * not fit has a start reserved for it, and those behind it start if they do not put that off.
 */
export function clairvoyant(): Discipline {
  return new Queueing((waiting, free, running, now) => {
    const first = untilOneDoesNotFit(waiting, free);
    const head = waiting[first.length];
    let left = free - first.reduce((sum, { gpus }) => sum + gpus, 0);
    if (head === undefined || left === 0) return first;
    const ends = [...running, ...first.map((job) => [job, now + job.durationMs] as const)].sort((a, b) => a[1] - b[1]);
    let atHead = left;
    let headStarts = now;
    for (const [job, endsMs] of ends) {
      if (atHead >= head.gpus) break;
      atHead += job.gpus;
      headStarts = endsMs;
    }
    /** GPUs that are free until the head starts and not needed by it either. */
    let spare = atHead - head.gpus;
    const behind: Job[] = [];
    for (const job of waiting.slice(first.length + 1)) {
      if (left === 0) break;
      if (job.gpus > left) continue;
      const isShort = now + job.durationMs <= headStarts;
      if (!isShort && job.gpus > spare) continue;
      if (!isShort) spare -= job.gpus;
      left -= job.gpus;
      behind.push(job);
    }
    return [...first, ...behind];
  });
}
