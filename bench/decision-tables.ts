/** The times of decisions, of one tree, as a process of its own: `node decision-tables.ts FOLDER`. Prints JSON. */
import { join } from "node:path";

/** One row of a table: what was decided, on what, and the time in microseconds. */
export interface DecisionRow {
  readonly what: string;
  readonly on: string;
  readonly us: number;
}

const folder = process.argv[2];
if (folder !== undefined) {
  const { measureBackfill, measureDecision, measureGrant } = await import(join(folder, "bench/decision.ts"));
  // What comes first would else be measured before the just-in-time compiler has come to it.
  for (let i = 0; i < 2; i++) {
    for (const count of [1, 8]) measureGrant(64, count);
    measureDecision(64, 100);
    for (const behind of ["mixed", "adverse"]) measureBackfill(8, 500, behind);
  }
  const rows: DecisionRow[] = [];
  for (const [gpus, count] of [
    [8, 1],
    [64, 1],
    [1_024, 1],
    [8, 4],
    [64, 8],
    [64, 32],
  ] as const) {
    rows.push({ what: "a grant, all free", on: `${count} of ${gpus} GPUs`, us: measureGrant(gpus, count) });
  }
  for (const [gpus, waiting] of [
    [8, 100],
    [8, 100_000],
    [64, 10_000],
    [1_024, 100],
    [1_024, 100_000],
  ] as const) {
    const { releaseUs, submitUs } = measureDecision(gpus, waiting);
    rows.push({ what: "a release and the grant after it", on: `${gpus} GPUs, ${waiting} waiting`, us: releaseUs });
    rows.push({ what: "a request that must queue", on: `${gpus} GPUs, ${waiting} waiting`, us: submitUs });
  }
  for (const [gpus, waiting, behind] of [
    [8, 10_000, "mixed"],
    [64, 10_000, "mixed"],
    [1_024, 1_000, "mixed"],
    [8, 10_000, "adverse"],
  ] as const) {
    const { releaseUs, forecastUs } = measureBackfill(gpus, waiting, behind);
    const on = `${gpus} GPUs, ${waiting} waiting, ${behind}`;
    rows.push({ what: "a release with the head's GPUs held", on, us: releaseUs });
    rows.push({ what: "a hundred estimates", on, us: forecastUs });
  }
  console.log(JSON.stringify(rows));
}
