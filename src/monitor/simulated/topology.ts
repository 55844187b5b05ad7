import type { GpuLink, Topology } from "../../core/model/device.ts";
import type { GpuUuid } from "../../core/model/ids.ts";
import type { Shape } from "./models.ts";

/** From so many GPUs on a host has two CPU sockets, with half of the GPUs each. */
const TWO_SOCKETS_FROM = 4;
/** Of each socket: 48 cores, and their second threads. */
const SOCKET_CPUS = ["0-47,96-143", "48-95,144-191"] as const;

/**
 * How the GPUs of a simulated host are connected: by NVLink where its model has it, else by PCIe as servers are commonly
 * built, two GPUs to a switch.
 */
export function simulatedTopology({ model, count }: Shape, uuids: readonly GpuUuid[]): Topology {
  const socketOf = (gpu: number) => (count >= TWO_SOCKETS_FROM && gpu >= count / 2 ? 1 : 0);
  const isPair = (a: number, b: number) => Math.floor(a / 2) === Math.floor(b / 2);
  const link = (a: number, b: number): GpuLink | null => {
    if (a === b) return null;
    const { nvlink } = model;
    if (nvlink !== null && (nvlink.between === "all" || isPair(a, b))) return `NV${nvlink.links}`;
    if (isPair(a, b)) return "PIX";
    return socketOf(a) === socketOf(b) ? "NODE" : "SYS";
  };
  return {
    gpus: uuids.map((uuid, gpu) => ({ uuid, numaNodes: [socketOf(gpu)], cpuAffinity: SOCKET_CPUS[socketOf(gpu)] })),
    links: uuids.map((_, a) => uuids.map((__, b) => link(a, b))),
  };
}
