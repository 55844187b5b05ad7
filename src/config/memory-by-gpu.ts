/** MiB by GPU, as `GPU: MIB` lines. */
import { sectionsByName } from "./by-name.ts";
import { integer, setting, text } from "./settings.ts";

const gpuName = text("a UUID, or a part of a model's name", /^[^\p{Cc}]{1,128}$/u);
const mib = setting(integer(0, 100_000_000), null);

export function memoryByGpu() {
  return sectionsByName(gpuName, mib, { lines: "GPU: MIB", most: 1_024 });
}
