export type AllocationId = string;

/** NVIDIA's `GPU-...`, or the PCI address when the driver gives no usable UUID. Unique on the host. */
export type GpuUuid = string;

/** What a principal may be called: 1 to 128 characters, with no space at either end. */
export const PRINCIPAL_NAME = /^(?!\s)[^\p{C}]{1,128}(?<!\s)$/u;

/** What everybody is called where no keys are asked for. */
export const ANONYMOUS = "anonymous";

/** Who sends a command. With authentication off, everybody is one principal and an admin. */
export interface Actor {
  readonly principal: string;
  readonly admin: boolean;
}
