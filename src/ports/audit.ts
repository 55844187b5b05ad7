/** Who changed or was refused what. Nothing that is decided depends on it. */
import type { EpochMs } from "../core/base/time.ts";
import type { Actor } from "../core/model/ids.ts";

/** How a request came. */
export interface Origin {
  /** Tells the key, and does not give it away; `null`: there was none. */
  readonly keyId: string | null;
  readonly address: string;
  /** The call, such as `POST /gpu/allocate`. */
  readonly action: string;
  readonly requestId: string;
}

/** Who sends a command. Without an origin it is the daemon itself, on somebody's behalf. */
export interface Sender extends Actor {
  readonly origin?: Origin;
}

/** What a change is said to have come to; of a refusal it is the problem's code. */
export const DONE = "done";

export interface AuditEntry {
  readonly at: EpochMs;
  /** `null`: nobody was told, by no key or a wrong one. */
  readonly principal: string | null;
  readonly keyId: string | null;
  /** `null`: the daemon itself. */
  readonly address: string | null;
  readonly action: string;
  /** An allocation's id, a GPU's UUID, or whatever else the action was about. */
  readonly object: string | null;
  readonly result: string;
  /** An admin's word; of an entry that counts refusals, their code. */
  readonly reason: string | null;
  readonly requestId: string | null;
  /** How many refusals it stands for. */
  readonly count: number;
}

export interface KeptAuditEntry extends AuditEntry {
  /** They are numbered as they come. */
  readonly seq: number;
}

export interface AuditQuery {
  readonly principal: string | null;
  readonly action: string | null;
  readonly object: string | null;
  /** `refused`: whatever is not done. */
  readonly result: string | null;
  readonly from: EpochMs | null;
  readonly to: EpochMs | null;
  /** Only those before this number. */
  readonly before: number | null;
  readonly limit: number;
}

export interface AuditPage {
  /** Newest first. */
  readonly entries: readonly KeptAuditEntry[];
  /** The `before` of the next page; `null`: there is none. */
  readonly next: number | null;
}

export interface AuditStore {
  /** @throws StorageUnavailableError when nothing was written. */
  keepAudit(entries: readonly AuditEntry[]): Promise<void>;
  /** A page costs no more than a bounded number of rows: it may be short, or empty, and not be the last. */
  audit(query: AuditQuery): AuditPage;
}

export const NO_AUDIT: AuditStore = {
  keepAudit: () => Promise.resolve(),
  audit: () => ({ entries: [], next: null }),
};

/** What somebody has done. */
interface Deed extends Pick<AuditEntry, "object" | "reason"> {
  /** The action's name where no call gives it one. */
  readonly otherwise: string;
}

export function doneBy({ principal, origin }: Sender, at: EpochMs, { otherwise, object, reason }: Deed): AuditEntry {
  return {
    at,
    principal,
    keyId: origin?.keyId ?? null,
    address: origin?.address ?? null,
    action: origin?.action ?? otherwise,
    object,
    result: DONE,
    reason,
    requestId: origin?.requestId ?? null,
    count: 1,
  };
}
