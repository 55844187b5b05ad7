/** One host's requests in virtual time, served by one policy. */
import { HOST_GPUS, type Job } from "./trace.ts";

/** Who is started when. Told of every request and every end in order of time, it answers with those that start then. */
export interface Discipline {
  submitted(job: Job, now: number): readonly Job[];
  /** `job`, which this had started, has ended by itself. */
  ended(job: Job, now: number): readonly Job[];
}

/** What became of one request; instants in ms since the first. */
export interface Served {
  readonly job: Job;
  readonly startedMs: number;
}

/**
 * Runs all of `jobs`, which come by submission, until the last has ended. Of an end and a submission at the same
 * instant the end comes first.
 *
 * @returns them in the order of the jobs.
 * @throws Error when the policy starts what does not fit, what it was not told of, or leaves somebody out.
 */
export function replay(jobs: readonly Job[], discipline: Discipline): readonly Served[] {
  const served: (Served | undefined)[] = jobs.map(() => undefined);
  /** No more than the host has GPUs. */
  let running: { readonly job: Job; readonly endsMs: number }[] = [];
  let free = HOST_GPUS;
  const start = (started: readonly Job[], now: number) => {
    for (const job of started) {
      free -= job.gpus;
      if (free < 0 || served[job.index] !== undefined || job.submittedMs > now) {
        throw new Error(`request ${job.index} cannot start at ${now}`);
      }
      served[job.index] = { job, startedMs: now };
      running.push({ job, endsMs: now + job.durationMs });
    }
  };
  let next = 0;
  for (;;) {
    const ending = running.reduce<(typeof running)[number] | null>(
      (first, one) => (first === null || one.endsMs < first.endsMs ? one : first),
      null,
    );
    const coming = jobs[next];
    if (ending !== null && ending.endsMs <= (coming?.submittedMs ?? Infinity)) {
      running = running.filter((one) => one !== ending);
      free += ending.job.gpus;
      start(discipline.ended(ending.job, ending.endsMs), ending.endsMs);
    } else if (coming !== undefined) {
      next++;
      start(discipline.submitted(coming, coming.submittedMs), coming.submittedMs);
    } else break;
  }
  return served.map((one, index) => {
    if (one === undefined) throw new Error(`request ${index} never started`);
    return one;
  });
}
