/**
 * PCI addresses are written in several ways: `00000000:3B:00.0` by drivers since 384, `0000:3B:00.0` before, `0:3b:0`
 * long ago, and `0000:3b:00`, without the function, in the kernel's log.
 */
const ADDRESS = /([0-9a-f]{1,8}):([0-9a-f]{1,2}):([0-9a-f]{1,2})(?![0-9a-f:])/i;

/** The same text for the same device, however its address is written; `null` when there is none in `text`. */
export function pciDevice(text: string): string | null {
  const found = ADDRESS.exec(text);
  if (found === null) return null;
  return found
    .slice(1, 4)
    .map((part) => Number.parseInt(part, 16).toString(16))
    .join(":");
}
