/**
 * How long fuzzers go on: so many cases, the same in each run and at most ten seconds of them; or, with FUZZ_SECONDS
 * (`npm run test:fuzz`), as many as come in that time.
 */
const IN_SUITE_SECONDS = 10;
const SECONDS = process.env.FUZZ_SECONDS === undefined ? null : Number(process.env.FUZZ_SECONDS);

export const FUZZ_TIMEOUT_MS = ((SECONDS ?? IN_SUITE_SECONDS) + 120) * 1_000;

export function fuzzed(cases: number) {
  return {
    numRuns: SECONDS === null ? cases : Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: (SECONDS ?? IN_SUITE_SECONDS) * 1_000,
    markInterruptAsFailure: false,
  };
}
