/** An instant: milliseconds since 1970-01-01T00:00:00Z on the daemon's steady clock. */
export type EpochMs = number;

/** A stretch of time that has its first instant and not its last. */
export interface Span {
  readonly from: EpochMs;
  readonly to: EpochMs;
}
