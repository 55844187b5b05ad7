import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Topology } from "../../../src/core/model/device.ts";
import { parseTopology } from "../../../src/monitor/nvidia-smi/topology.ts";

const FOLDER = join(import.meta.dirname, "../../../../shared/fixtures/topology");

/** Output of real hosts, kept beside the repository. */
export const hasTopologies = existsSync(FOLDER);

export const readTopology = (name: string) => readFileSync(join(FOLDER, `${name}.txt`), "utf8");

/** The topology of a fixture, with the UUID that `uuidOf` gives to each index. */
export function topologyOf(name: string, uuidOf: (index: number) => string): Topology {
  const result = parseTopology(readTopology(name));
  if (!result.ok) throw new Error(`${name}: ${result.error.message}`);
  const { gpus, links } = result.topology;
  return { gpus: gpus.map((gpu, index) => ({ uuid: uuidOf(index), ...gpu })), links };
}
