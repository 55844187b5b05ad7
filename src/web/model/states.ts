/** How each state is told: by a word, a shape and a tone, so that none of them is needed to tell two states apart. */
import type { Ailment, GpuState } from "../api/answers.ts";

export type Tone = "good" | "held" | "wait" | "bad" | "off";

export type Shape =
  | "ring"
  | "disc"
  | "half"
  | "dashes"
  | "square"
  | "triangle"
  | "diamond"
  | "cross"
  | "bars"
  | "question"
  | "lock"
  | "grid"
  | "moon"
  | "pair"
  | "check";

export interface Look {
  readonly word: string;
  readonly shape: Shape;
  readonly tone: Tone;
  readonly means: string;
}

const LOOKS: { readonly [state in GpuState | Ailment]: Look } = {
  free: { word: "free", shape: "ring", tone: "good", means: "Can be granted now" },
  leased: { word: "leased", shape: "disc", tone: "held", means: "Held by a lease" },
  reclaiming: { word: "reclaiming", shape: "half", tone: "wait", means: "Its lease has ended; its memory is not back" },
  recovering: { word: "recovering", shape: "dashes", tone: "wait", means: "Back, and watched before it is granted" },
  occupied: { word: "occupied", shape: "square", tone: "wait", means: "Used by a process of no lease" },
  degraded: { word: "degraded", shape: "triangle", tone: "wait", means: "Works with errors; gets no new lease" },
  quarantined: { word: "quarantined", shape: "lock", tone: "bad", means: "Something is left on it, or it failed" },
  unhealthy: { word: "unhealthy", shape: "diamond", tone: "bad", means: "Must not be used" },
  lost: { word: "lost", shape: "cross", tone: "bad", means: "The driver does not show it any more" },
  cordoned: { word: "cordoned", shape: "bars", tone: "off", means: "An admin wants no new leases here" },
  unknown: { word: "unknown", shape: "question", tone: "off", means: "No current reading" },
  isolated: { word: "isolated", shape: "pair", tone: "wait", means: "Works, but not together with others" },
  mig: { word: "in parts", shape: "grid", tone: "good", means: "Cut into MIG instances, which are granted one by one" },
};

const UNHEARD_OF: Look = { word: "unknown", shape: "question", tone: "off", means: "A newer daemon's state" };

/** How a state is told. What this page does not know, a newer daemon's, is shown by its own word. */
export function lookOf(state: string): Look {
  return Object.hasOwn(LOOKS, state) ? LOOKS[state as Ailment] : { ...UNHEARD_OF, word: state };
}

/** Whether a GPU in this state is out of service: neither of use to a lease nor about to be. */
export function isOut(state: GpuState): boolean {
  return !["free", "leased", "mig", "reclaiming"].includes(state);
}
