/** What can be done to a fake host. Each verb says what the driver shows from then on; {@link heal} takes it all back. */
import type { FakeGpu, FakeHostFolder, FakeHostState } from "./host.ts";

/** A verb cannot be done as it was said. */
export class WrongVerb extends Error {}

export interface Use {
  readonly pid: number;
  readonly mb: number;
  /** `C` computes, `G` draws. */
  readonly type: string;
  readonly name: string;
}

type Change = (state: FakeHostState) => FakeHostState;

function withGpu(index: number, to: (gpu: FakeGpu) => Partial<FakeGpu>): Change {
  return (state) => {
    const gpu = state.gpus[index];
    if (gpu === undefined) throw new WrongVerb(`there is no GPU ${index}: they are 0 to ${state.gpus.length - 1}`);
    return { ...state, gpus: state.gpus.map((one, at) => (at === index ? { ...one, ...to(one) } : one)) };
  };
}

const showing = (index: number, shows: Partial<FakeGpu["shows"]>): Change =>
  withGpu(index, (gpu) => ({ shows: { ...gpu.shows, ...shows } }));

const instead =
  (order: FakeHostState["instead"]): Change =>
  (state) => ({ ...state, instead: order });

/** The driver says of a GPU that it is lost, among good figures of the others. */
export const lose = (index: number) => showing(index, { temperatureC: "GPU is lost" });
/** The same, but the driver shows nothing at all when it is asked for all of them. */
export const spoil =
  (index: number): Change =>
  (state) => ({ ...state, spoiledBy: state.gpus[index]?.shows.uuid ?? null });
/** It is missing from the driver's list. */
export const vanish = (index: number) => withGpu(index, () => ({ present: false }));
export const ecc = (index: number) => showing(index, { eccVolatile: 2 });
export const remap = (index: number, what: "pending" | "failure") =>
  showing(index, what === "pending" ? { remappedRowsPending: "Yes" } : { remappedRowsFailure: "Yes" });
/** It asks for a reset. */
export const reset = (index: number) => showing(index, { recoveryAction: "Reset" });
export const heat = (index: number) => showing(index, { temperatureC: 91, hwThermalSlowdown: "Active" });
/** 100 % busy, with no process and no memory in use. */
export const ghost = (index: number) => showing(index, { utilizationPercent: 100, memoryUsedMib: 0, processes: [] });
/** Memory is in use, and no process is seen. */
export const fill = (index: number, mb: number) => showing(index, { memoryUsedMib: mb });
export const isolate = (index: number) =>
  showing(index, { fabricState: "Completed", fabricStatus: "Success", fabricHealth: "Unhealthy" });

const PROFILE = /^([1-7])g\.(\d{1,3})gb$/;

/** MIG is on, and it is cut into instances of these profiles, such as `1g.10gb`; without any there is none. */
export function cut(index: number, profiles: readonly string[]): Change {
  const migDevices = profiles.map((profile, at) => {
    const [, slices, gb] = PROFILE.exec(profile) ?? [];
    if (slices === undefined) throw new WrongVerb(`${profile} is no profile such as 1g.10gb`);
    // A slice has 16 multiprocessors, and some of the memory is kept.
    const size = { memoryTotalMib: Number(gb) * 1_024 - 256, multiprocessorCount: 16 * Number(slices) };
    return { index: at, gpuInstanceId: 7 + at, computeInstanceId: 0, ...size };
  });
  return showing(index, { migMode: "Enabled", utilizationPercent: "N/A", processes: [], migDevices });
}

/** A process runs there, beside those that do. */
export const use = (index: number, { pid, mb, type, name }: Use) =>
  withGpu(index, ({ shows }) => {
    const processes = [...(shows.processes ?? []), { pid, type, name, usedMemoryMib: mb }];
    const usedMib = processes.reduce((sum, { usedMemoryMib }) => sum + Number(usedMemoryMib ?? 0), 0);
    return { shows: { ...shows, processes, memoryUsedMib: usedMib, utilizationPercent: 80 } };
  });
/** All processes have gone, with their memory. */
export const leave = (index: number) => showing(index, { processes: [], memoryUsedMib: 0, utilizationPercent: 0 });

/** The indices go round: what was 0 is last. */
export const renumber: Change = (state) => ({ ...state, gpus: [...state.gpus.slice(1), ...state.gpus.slice(0, 1)] });

export const hang = instead({ mode: "hang" });
export const stubborn = instead({ mode: "stubborn" });
export const garble = instead({ mode: "garbage" });
export const crash = instead({ mode: "crash" });

/** The document breaks off after half of it. */
export function truncate(whole: string): Change {
  return instead({ mode: "text", text: whole.slice(0, whole.length / 2) });
}

/** What it prints with these codes, as seen on real hosts. */
const SAID: { readonly [code: number]: string } = {
  6: "No devices were found\n",
  9: "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
  12: "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n",
  18: "Failed to initialize NVML: Driver/library version mismatch\n",
};

/** It ends with this code; with 0 and 14 it shows the GPUs all the same. */
export function exit(code: number): Change {
  if (code === 14) {
    return (state) => ({ ...state, exit: 14, tail: "WARNING: infoROM is corrupted at gpu 0000:10:00.0\n" });
  }
  if (code === 0) return (state) => ({ ...state, exit: 0, tail: "" });
  return instead({ mode: "text", text: SAID[code] ?? "Unknown error\n", exit: code });
}

/** All is well again. What stands in the kernel's log stays there, and so do the GPUs' places. */
export const heal: Change = (state) => ({
  gpus: state.gpus.map(({ shows: { uuid, pciBusId, name, minorNumber } }) => ({
    shows: { uuid, pciBusId, name: name ?? null, minorNumber: minorNumber ?? null },
    present: true,
  })),
  instead: null,
  exit: 0,
  tail: "",
  spoiledBy: null,
});

export function xid(host: FakeHostFolder, number: number, index: number): void {
  const gpu = host.state.gpus[index];
  if (gpu === undefined) throw new WrongVerb(`there is no GPU ${index}`);
  host.logXid(gpu.shows.pciBusId, number, "pid='<unknown>', name=<unknown>");
}
