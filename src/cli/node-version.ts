// Kept small and old-fashioned on purpose: an old Node must get as far as this.
import module from "node:module";

const OLDEST_NODE = 24;

/** Ends the process when its Node is too old; what is loaded after it may be as new as that Node is. */
export function demandNode(program: string): void {
  if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
    console.error(`${program} needs Node ${OLDEST_NODE} or newer; this is ${process.version}`);
    process.exit(1);
  }
  module.enableCompileCache();
}
