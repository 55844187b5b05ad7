/** What gpuo and its keeper say to each other. The link breaks when gpuo dies, however it dies: that is its use. */
import type { Allocation, Granted } from "../../client/types.ts";
import type { Root } from "./processes.ts";

export interface Hold {
  readonly url: string;
  readonly key: string | null;
  readonly isLocal: boolean;
  readonly lease: Granted | Allocation;
  /** How long ago the call was sent that showed the lease as held, in ms: clocks of two processes have no common zero. */
  readonly heldForMs: number;
  readonly graceMs: number;
  readonly keepRunning: boolean;
  /** Sent when the lease is to be taken back, and `notifyBeforeMs` before its stated end; `null`: not at all. */
  readonly preemptSignal: NodeJS.Signals | null;
  readonly notifyBeforeMs: number | null;
  /** The command's control group; `null`: there can be none here. */
  readonly cage: string | null;
  /** gpuo itself. */
  readonly pid: number;
}

export type ToKeeper =
  | {
      readonly kind: "hold";
      readonly hold: Hold;
      readonly command: Root | null;
    }
  | { readonly kind: "started"; readonly command: Root }
  | { readonly kind: "ended" }
  | { readonly kind: "kill" };

export type FromKeeper =
  | { readonly kind: "ready" }
  | { readonly kind: "say"; readonly words: string }
  | { readonly kind: "done" };
