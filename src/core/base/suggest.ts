/** Finds what somebody who mistyped a word may have meant. */

const MAX_WORD_LENGTH = 64;
const SHORTEST_BEGINNING = 3;

/** The candidate that is close enough to `word` to be worth showing; of equally close ones the first. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  if (word.length > MAX_WORD_LENGTH) return null;
  const plain = snakeCase(word);
  const related = candidates.filter((candidate) => beginsLike(plain, candidate) || beginsLike(candidate, plain));
  if (related.length === 1 && related[0] !== undefined) return related[0];
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(plain.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(plain, snakeCase(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function beginsLike(word: string, beginning: string): boolean {
  return beginning.length >= SHORTEST_BEGINNING && word.startsWith(beginning);
}

/** Whether two words differ only in how they are joined: see {@link snakeCase}. */
export function isSameWord(a: string, b: string): boolean {
  return a.length <= MAX_WORD_LENGTH && snakeCase(a) === snakeCase(b);
}

/** `readTimeout`, `read-timeout` and `READ_TIMEOUT` are all `read_timeout`. */
function snakeCase(word: string): string {
  return word
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/[-\s]+/g, "_")
    .toLowerCase();
}

/** Damerau and Levenshtein's distance, in its restricted form: a swap of neighbours costs one edit. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const substitution = (last[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      let cost = Math.min(substitution, (last[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1);
      const swapped = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (row > 1 && column > 1 && swapped) cost = Math.min(cost, (beforeLast[column - 2] ?? 0) + 1);
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}
