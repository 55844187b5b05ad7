import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dirname, "../../../../shared/fixtures/nvidia-smi");

/** Output of real drivers, kept beside the repository. */
export const hasCaptures = existsSync(FOLDER);

export const captures: readonly { readonly name: string; readonly path: string }[] = hasCaptures
  ? [".", "derived"].flatMap((folder) =>
      readdirSync(join(FOLDER, folder))
        .filter((file) => file.endsWith(".xml"))
        .map((file) => ({ name: file.slice(0, -".xml".length), path: join(FOLDER, folder, file) })),
    )
  : [];

export function capturePath(name: string): string {
  const found = captures.find((capture) => capture.name === name);
  if (found === undefined) throw new Error(`no capture ${name}`);
  return found.path;
}

export const readCapture = (name: string) => readFileSync(capturePath(name));

/** What is true of a capture, by an independent reader. */
export const expectedOf = (name: string): Expected =>
  JSON.parse(readFileSync(join(FOLDER, "expected", `${name}.json`), "utf8"));

export const readFailure = (name: string) => readFileSync(join(FOLDER, "failures", `${name}.stdout.txt`), "utf8");

type YesNo = "Yes" | "No" | null;

export interface Expected {
  readonly timestamp: string | null;
  readonly driver_version: string | null;
  readonly cuda_version: string | null;
  readonly attached_gpus: number | null;
  readonly gpus: readonly ExpectedGpu[];
}

interface ExpectedGpu {
  readonly index: number;
  readonly minor_number: number | null;
  readonly id_attribute: string;
  readonly pci_bus_id: string | null;
  readonly uuid: string;
  readonly serial: string | null;
  readonly product_name: string;
  readonly memory_total_mib: number | null;
  readonly memory_used_mib: number | null;
  readonly memory_free_mib: number | null;
  readonly utilization_gpu_percent: number | null;
  readonly temperature_c: number | null;
  readonly power_draw_w: number | null;
  readonly power_limit_w: number | null;
  readonly mig_mode_current: string | null;
  readonly mig_instances: readonly {
    readonly index: number;
    readonly gpu_instance_id: number;
    readonly compute_instance_id: number;
    readonly memory_total_mib: number | null;
    readonly memory_used_mib: number | null;
    readonly multiprocessor_count: number | null;
  }[];
  readonly compute_mode: string | null;
  readonly persistence_mode: string | null;
  readonly processes: readonly {
    readonly pid: number;
    readonly type: string | null;
    readonly gpu_instance_id: number | null;
    readonly compute_instance_id: number | null;
    readonly used_memory_mib: number | null;
    readonly name: string | null;
  }[];
  readonly ecc_uncorrected_aggregate: number | null;
  readonly ecc_uncorrected_volatile: number | null;
  readonly retired_pages: { readonly pending: YesNo };
  readonly remapped_rows: { readonly pending: YesNo; readonly failure: YesNo };
  readonly gpu_recovery_action: string | null;
  readonly fabric_state: string | null;
  readonly fabric_status: string | null;
  readonly error_values: { readonly [path: string]: string };
}
