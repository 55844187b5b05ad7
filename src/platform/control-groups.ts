/** Where the kernel's control groups are (cgroups(7)). */
import { readFileSync } from "node:fs";

/** Where each hierarchy of control groups is mounted, and where this process is in it. */
export interface Hierarchies {
  readonly unified: { readonly mount: string; readonly own: string } | null;
  /** Version 1, by controller. */
  readonly legacy: ReadonlyMap<string, { readonly mount: string; readonly own: string }>;
}

const V1_CONTROLLERS = ["pids", "memory", "cpu"] as const;

export function readHierarchies(
  mountinfo = readFileSync("/proc/self/mountinfo", "utf8"),
  groups = readFileSync("/proc/self/cgroup", "utf8"),
): Hierarchies {
  const own = new Map<string, string>();
  for (const line of groups.split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path !== undefined) for (const name of (controllers as string).split(",")) own.set(name, path);
  }
  let unified: Hierarchies["unified"] = null;
  const legacy = new Map<string, { mount: string; own: string }>();
  for (const line of mountinfo.split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const [type, , options = ""] = after.split(" ");
    const [, , , root = "", mount = ""] = before.split(" ");
    const place = (name: string) => ({ mount, own: beneath(own.get(name) ?? "/", root) });
    if (type === "cgroup2") unified = place("");
    if (type !== "cgroup") continue;
    for (const name of V1_CONTROLLERS) if (options.split(",").includes(name)) legacy.set(name, place(name));
  }
  return { unified, legacy };
}

/** In a container only a part of the tree is mounted, and paths begin there. */
function beneath(path: string, root: string): string {
  return root !== "/" && path.startsWith(root) ? path.slice(root.length) || "/" : path;
}
