// Kept small and old-fashioned on purpose: an old Node must get as far as this. Node's own modules are not imported here:
// a module that imports node:fs has each of its exports looked at, and so its streams loaded, which takes milliseconds.

const OLDEST_NODE = 24;
const OTHERS_WRITE = 0o022;

/** Ends the process when its Node is too old; what is loaded after it may be as new as that Node is. */
export function demandNode(program: string): void {
  if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
    console.error(`${program} needs Node ${OLDEST_NODE} or newer; this is ${process.version}`);
    process.exit(1);
  }
  const folder = cacheFolder();
  if (folder !== null) process.getBuiltinModule("node:module").enableCompileCache(folder);
}

/**
 * Where compiled code is kept between runs. Node trusts what it finds there, so it must be a folder in which nobody else
 * writes. Node's own choice is in /tmp; and `sudo` may leave root somebody else's home.
 *
 * @returns `null`: nowhere.
 */
function cacheFolder(): string | null {
  const given = process.env.XDG_CACHE_HOME;
  const owned = given || process.getBuiltinModule("node:os").homedir();
  try {
    const { uid, mode } = process.getBuiltinModule("node:fs").statSync(owned);
    if (uid !== process.getuid?.() || (mode & OTHERS_WRITE) !== 0) return null;
  } catch {
    return null;
  }
  return `${given ? owned : `${owned}/.cache`}/gpu-orchestrator/code`;
}
