/** Random numbers from 0 up to 1, the same for the same `seed` from 1 on: a failing run repeats with the same choices. */
export function lehmer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
