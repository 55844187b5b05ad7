/** What this thread worked for it, in ms: what else runs on the machine does not count. Some kernels tell it in steps of 4 ms. */
export function timed<T>(work: () => T): { readonly cpuMs: number; readonly result: T } {
  const begun = process.threadCpuUsage();
  const result = work();
  const { user, system } = process.threadCpuUsage(begun);
  return { cpuMs: (user + system) / 1_000, result };
}
