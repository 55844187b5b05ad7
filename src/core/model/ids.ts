export type AllocationId = string;

/** NVIDIA's `GPU-...`, or the PCI address when the driver gives no usable UUID. Unique on the host. */
export type GpuUuid = string;

/** Who sends a command. With authentication off, everybody is one principal and an admin. */
export interface Actor {
  readonly principal: string;
  readonly admin: boolean;
}
