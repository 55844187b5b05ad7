/**
 * What the driver wants to be done about a GPU. It says so in two places, the readings (`gpu_recovery_action`) and Xid
 * 154 in the kernel's log: one rule for both.
 *
 * Source: NVML's `nvmlDeviceGpuRecoveryAction_t`, NVIDIA's "error recovery and response flags", and the words that
 * drivers 570 to 595 were seen to print.
 */

/**
 * `isolate`: it works, but not together with others. `unknown`: a word that this list does not know. What it asks for
 * may be anything, so the GPU is not as good as others.
 */
export type RecoveryEffect = "none" | "exclude" | "isolate" | "unknown";

interface Action {
  /** As Xid 154 numbers it. */
  readonly number: number;
  /** As the readings call it, in lower case. */
  readonly word: string;
  readonly effect: RecoveryEffect;
}

const ACTIONS: readonly Action[] = [
  { number: 0, word: "none", effect: "none" },
  { number: 1, word: "reset", effect: "exclude" },
  { number: 2, word: "reboot", effect: "exclude" },
  { number: 3, word: "drain p2p", effect: "isolate" },
  { number: 4, word: "drain and reset", effect: "exclude" },
  { number: 5, word: "recover imex domain", effect: "exclude" },
  { number: 6, word: "bus reset", effect: "exclude" },
  { number: 7, word: "system reboot", effect: "exclude" },
];

/** @param action a word of the readings, or a number of Xid 154. */
export function recoveryEffect(action: string | number): RecoveryEffect {
  const found = ACTIONS.find(({ number, word }) =>
    typeof action === "number" ? number === action : word === action.trim().toLowerCase(),
  );
  return found?.effect ?? "unknown";
}

/** The word for a number of Xid 154; the number itself when it has none. */
export function recoveryWord(action: number): string {
  return ACTIONS.find(({ number }) => number === action)?.word ?? `action ${action}`;
}
