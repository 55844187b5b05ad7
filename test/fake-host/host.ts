/**
 * A host that does not exist: a folder with an `nvidia-smi` that shows its GPUs, a kernel's log, and settings for a
 * daemon that is to watch them. What is done to it (verbs.ts) is seen from the next reading on.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { FakeNvidiaSmi, type FakeOrder } from "../fixtures/fake-nvidia-smi.ts";
import { type SmiGpu, smiDocument, smiPciBusId, smiUuid } from "../fixtures/nvidia-smi-document.ts";

/** A GPU as the driver shows it, and what is not the driver's to show. */
export interface FakeGpu {
  readonly shows: SmiGpu & { readonly uuid: string; readonly pciBusId: string };
  /** It stands in the driver's list. */
  readonly present: boolean;
}

export interface FakeHostState {
  /** In the driver's order. */
  readonly gpus: readonly FakeGpu[];
  /** What `nvidia-smi` does in place of showing them; `null`: it shows them. */
  readonly instead: FakeOrder | null;
  /** Its exit code when it shows them, and what it prints after them. */
  readonly exit: number;
  readonly tail: string;
  /** The UUID of a GPU whose loss spoils the listing of all. */
  readonly spoiledBy: string | null;
}

export function wellHost(gpus: number, name = "NVIDIA H100 80GB HBM3"): FakeHostState {
  return {
    gpus: Array.from({ length: gpus }, (_, at) => ({ shows: identity(at, name), present: true })),
    instead: null,
    exit: 0,
    tail: "",
    spoiledBy: null,
  };
}

function identity(at: number, name: string) {
  return { uuid: smiUuid(at), pciBusId: smiPciBusId(at), minorNumber: at, name };
}

/** What the fake program is to do for this state of the host. */
export function orderOf(state: FakeHostState): FakeOrder {
  if (state.instead !== null) return state.instead;
  const shown = state.gpus.filter(({ present }) => present).map(({ shows }) => shows);
  const whole: FakeOrder = { mode: "text", text: smiDocument({ gpus: shown }), exit: state.exit, tail: state.tail };
  if (state.spoiledBy === null) return whole;
  const each = shown.map(({ ...gpu }): [string, FakeOrder] => [
    gpu.uuid,
    gpu.uuid === state.spoiledBy ? lost(gpu.pciBusId) : { mode: "text", text: smiDocument({ gpus: [gpu] }) },
  ]);
  const { pciBusId } = shown.find(({ uuid }) => uuid === state.spoiledBy) ?? { pciBusId: smiPciBusId(0) };
  return { ...lost(pciBusId), each: Object.fromEntries(each) };
}

function lost(pciBusId: string): FakeOrder {
  const words = `Unable to determine the device handle for GPU ${pciBusId.slice(4)}: GPU is lost.  Reboot the system to recover this GPU\n`;
  return { mode: "text", text: words, exit: 15 };
}

const STATE = "host.json";
const KERNEL_LOG = "kmsg";
const CONFIG = "config.yaml";

export class FakeHostFolder {
  readonly path: string;
  readonly #smi: FakeNvidiaSmi;

  /** Takes up what stands in `folder`, and makes a host there if there is none. */
  constructor(folder: string, gpus = 4) {
    this.path = resolve(folder);
    mkdirSync(this.path, { recursive: true });
    const state = FakeHostFolder.exists(this.path) ? this.state : wellHost(gpus);
    this.#smi = new FakeNvidiaSmi(orderOf(state), this.path);
    this.#write(state);
    if (!existsSync(this.kernelLog)) writeFileSync(this.kernelLog, "");
    if (!existsSync(this.config)) writeFileSync(this.config, this.#settings());
  }

  static exists(folder: string): boolean {
    return existsSync(join(folder, STATE));
  }

  get config(): string {
    return join(this.path, CONFIG);
  }

  get nvidiaSmi(): string {
    return this.#smi.path;
  }

  get kernelLog(): string {
    return join(this.path, KERNEL_LOG);
  }

  get state(): FakeHostState {
    return JSON.parse(readFileSync(join(this.path, STATE), "utf8")) as FakeHostState;
  }

  change(to: (state: FakeHostState) => FakeHostState): void {
    const next = to(this.state);
    this.#smi.tell(orderOf(next));
    this.#write(next);
  }

  #write(state: FakeHostState): void {
    const file = join(this.path, STATE);
    writeFileSync(`${file}.new`, JSON.stringify(state, null, 2));
    renameSync(`${file}.new`, file);
  }

  /** The kernel reports an error of the GPU at this address. */
  logXid(pciBusId: string, xid: number, words: string): void {
    const lines = readFileSync(this.kernelLog, "utf8").split("\n").length;
    const at = `PCI:${pciBusId.slice(4, -2).toLowerCase()}`;
    appendFileSync(
      this.kernelLog,
      `3,${100 + lines},${Math.floor(performance.now() * 1_000)},-;NVRM: Xid (${at}): ${xid}, ${words}\n`,
    );
  }

  #settings(): string {
    const path = (file: string) => JSON.stringify(file);
    return `# Made by npm run fake-host; yours to change.
monitoring:
  nvidia_smi_path: ${path(this.nvidiaSmi)}
  refresh_interval: 1s
  timeout: 2s
  kernel_log: ${path(this.kernelLog)}
storage:
  path: ${path(join(this.path, "gpu-orchestrator.db"))}
allocator:
  reclaim_timeout: 15s
  foreign_use: adopt
`;
  }
}
