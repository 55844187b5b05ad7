import type { MigInstance } from "../../core/model/reading.ts";

/** What a simulated GPU is: figures that real ones of its model were seen to report. */
export interface GpuModel {
  /** As `nvidia-smi` prints it. */
  readonly name: string;
  readonly memoryTotalMib: number;
  /** What the driver keeps for itself and counts neither as used nor as free. 0 in drivers that do not tell. */
  readonly memoryReservedMib: number;
  readonly powerLimitW: number;
  readonly idlePowerW: number;
  readonly idleTemperatureC: number;
  readonly ecc: boolean;
  readonly mig: boolean;
  /** Whether it hangs on NVSwitches, whose state the driver shows. */
  readonly fabric: boolean;
  /** How bad memory is taken out of use: whole pages before Ampere, rows since; `null` without ECC. */
  readonly repair: "pages" | "rows" | null;
  readonly nvlink: NvLink | null;
}

/** Every GPU with every other through NVSwitches, or two and two by a bridge; `links` is how many NVLinks a pair has. */
export interface NvLink {
  readonly between: "all" | "pairs";
  readonly links: number;
}

/**
 * Sources: `nvidia-smi -q -x` of real machines, as public projects keep it for their tests. Power and temperature
 * are those of a GPU without work.
 *
 * - h100, a100-40gb, l40s, t4, gb200: NVIDIA/k8s-test-infra, `testdata/hardware/qx-*.xml`
 * - a100, a10g, rtx3090: influxdata/telegraf, `plugins/inputs/nvidia_smi/testdata`
 * - rtx4090: 500farm/prometheus-nvidiasmi (driver 550, the board's default power limit); it works there, so that
 *   17 W and 29 C are from a listing of driver 550 with the GPU idle
 * - v100: GuanceCloud/datakit (driver 460); it works there, so that 37 W and 33 C are from a listing of driver 510
 * - h200: a listing of driver 590
 * - b200: a listing of driver 570 (0 of 183359 MiB in use, 136 W, 27 C), and 182642 MiB as CUDA sees it on one
 * - NVLinks: `nvidia-smi topo -m` of hosts with eight H100s (18) and eight A100s (12), stas00/ml-engineering, and of one
 *   with two bridged RTX 3090s (4), noonghunna/club-3090; Blackwell's fifth generation has 18 to a GPU, too
 */
const SWITCHED_18: NvLink = { between: "all", links: 18 };
const SWITCHED_12: NvLink = { between: "all", links: 12 };
const BRIDGED_4: NvLink = { between: "pairs", links: 4 };

const MODELS = {
  h100: model("NVIDIA H100 80GB HBM3", 81_559, 480, 700, 68.92, 29, { mig: true, fabric: true, nvlink: SWITCHED_18 }),
  h200: model("NVIDIA H200", 143_771, 614, 700, 77.88, 28, { mig: true, fabric: true, nvlink: SWITCHED_18 }),
  b200: model("NVIDIA B200", 183_359, 717, 1_000, 136, 27, { mig: true, fabric: true, nvlink: SWITCHED_18 }),
  gb200: model("NVIDIA GB200", 189_471, 742, 1_200, 165.93, 27, { mig: true, fabric: true, nvlink: SWITCHED_18 }),
  a100: model("NVIDIA A100-SXM4-80GB", 81_920, 869, 500, 67.03, 27, { mig: true, nvlink: SWITCHED_12 }),
  "a100-40gb": model("NVIDIA A100-SXM4-40GB", 40_960, 518, 400, 49.68, 33, { mig: true, nvlink: SWITCHED_12 }),
  a10g: model("NVIDIA A10G", 23_028, 435, 300, 25.58, 17, {}),
  l40s: model("NVIDIA L40S", 46_068, 609, 350, 66.16, 29, {}),
  t4: model("Tesla T4", 15_360, 448, 70, 33.51, 33, { repair: "pages" }),
  v100: model("Tesla V100-PCIE-32GB", 32_510, 0, 250, 37, 33, { repair: "pages" }),
  rtx3090: model("NVIDIA GeForce RTX 3090", 24_576, 450, 350, 35.15, 32, {
    ecc: false,
    repair: null,
    nvlink: BRIDGED_4,
  }),
  rtx4090: model("NVIDIA GeForce RTX 4090", 24_564, 354, 450, 17, 29, { ecc: false, repair: null }),
} as const;

type ModelKey = keyof typeof MODELS;

/** One MIG instance, of a GPU that nobody uses. */
export type Slice = { readonly [field in keyof Omit<MigInstance, "index" | "uuid">]: NonNullable<MigInstance[field]> };

function slice(
  profile: string,
  ids: readonly [gpu: number, compute: number],
  memory: number,
  used: number,
  sms: number,
): Slice {
  const [gpuInstanceId, computeInstanceId] = ids;
  return {
    profile,
    gpuInstanceId,
    computeInstanceId,
    memoryTotalMib: memory,
    memoryUsedMib: used,
    multiprocessorCount: sms,
  };
}

/**
 * How a real GPU of the model was seen to be cut: an H100 and an H200 in listings of driver 590, with two compute
 * instances in one GPU instance on the latter; an A100 in influxdata/telegraf (driver 535).
 */
const CUTS: { readonly [key in ModelKey]?: readonly Slice[] } = {
  h100: [
    slice("3g.40gb", [2, 0], 40_448, 26, 60),
    slice("2g.20gb", [3, 0], 20_096, 17, 32),
    slice("1g.10gb", [9, 0], 9_984, 9, 16),
    slice("1g.10gb", [10, 0], 9_984, 9, 16),
  ],
  h200: [
    slice("1c.3g.71gb", [2, 0], 71_424, 22, 16),
    slice("2c.3g.71gb", [2, 1], 71_424, 22, 32),
    slice("2g.35gb", [3, 0], 33_280, 17, 32),
    slice("1g.18gb", [9, 0], 16_384, 9, 16),
    slice("1g.18gb", [10, 0], 16_384, 9, 16),
  ],
  a100: [3, 4, 5, 6].map((gpuInstanceId) => slice("1g.20gb", [gpuInstanceId, 0], 19_968, 12, 14)),
};

/** As many as one host has at most. */
const MAX_COUNT = 16;

/** A host to simulate: so many GPUs of one model. */
export interface Shape {
  readonly key: string;
  readonly model: GpuModel;
  readonly count: number;
  /** Into what the last of them is cut; `null`: it is whole. */
  readonly cut: readonly Slice[] | null;
}

/** What can be simulated, in words, for whoever asked for something else. */
export const SHAPES =
  `MODELxCOUNT, such as h100x8, with 1 to ${MAX_COUNT} of: ${Object.keys(MODELS).join(", ")}; ` +
  `with -mig behind it the last GPU is cut into MIG instances (${Object.keys(CUTS).join(", ")})`;

/** Reads `h100x8` or `h100x8-mig`; `null` when it is no model known here, or not a count of GPUs that a host can have. */
export function parseShape(text: string): Shape | null {
  const [, key, digits, mig] = /^([a-z][a-z0-9-]*)x([1-9]\d?)(-mig)?$/.exec(text.toLowerCase()) ?? [];
  const count = Number(digits);
  if (key === undefined || !isModelKey(key) || count > MAX_COUNT) return null;
  const cut = mig === undefined ? null : (CUTS[key] ?? null);
  return mig !== undefined && cut === null ? null : { key, model: MODELS[key], count, cut };
}

function isModelKey(key: string): key is ModelKey {
  return Object.hasOwn(MODELS, key);
}

function model(
  name: string,
  memoryTotalMib: number,
  memoryReservedMib: number,
  powerLimitW: number,
  idlePowerW: number,
  idleTemperatureC: number,
  traits: Partial<Pick<GpuModel, "ecc" | "mig" | "fabric" | "repair" | "nvlink">>,
): GpuModel {
  return {
    name,
    memoryTotalMib,
    memoryReservedMib,
    powerLimitW,
    idlePowerW,
    idleTemperatureC,
    ecc: true,
    mig: false,
    fabric: false,
    repair: "rows",
    nvlink: null,
    ...traits,
  };
}
