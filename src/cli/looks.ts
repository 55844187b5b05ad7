/** Those of looking-verbs.ts; a test holds both against each other. */
const LOOKS: readonly string[] = ["status", "queue", "leases", "top", "history", "why", "show"];

export function isLook(word: string): boolean {
  return LOOKS.includes(word);
}
