// Builds a control plane for the tests of test/plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler)
// from the pinned modules there, into ~/.cache/gpu-orchestrator/kube-VERSION, and runs those tests, or with `scale` or
// `peers` the large runs of test/plane/scale.ts and test/plane/peers.ts. `build NAME...` builds those, prints the folder on
// its last line, and runs nothing: `.ci/run` does so.
// Needs Go; the first build takes long, several GiB of disk and the network. $KUBEBUILDER_ASSETS, a folder with these
// programs, spares it.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const VERSION = "1.36.3";
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = process.env.KUBEBUILDER_ASSETS ?? join(homedir(), `.cache/gpu-orchestrator/kube-${VERSION}`);
const stamp = "-X k8s.io/component-base/version";
const flags = `-s -w ${stamp}.gitVersion=v${VERSION} ${stamp}.gitMajor=1 ${stamp}.gitMinor=${VERSION.split(".")[1]}`;
const PROGRAMS = {
  etcd: { module: "etcd", path: "go.etcd.io/etcd/server/v3" },
  "kube-apiserver": { module: "kubernetes", path: "k8s.io/kubernetes/cmd/kube-apiserver" },
  "kube-controller-manager": { module: "kubernetes", path: "k8s.io/kubernetes/cmd/kube-controller-manager" },
  "kube-scheduler": { module: "kubernetes", path: "k8s.io/kubernetes/cmd/kube-scheduler" },
};

const [what, ...more] = process.argv.slice(2);
const wanted = what === "build" ? more : Object.keys(PROGRAMS);
mkdirSync(folder, { recursive: true });
// One after the other: a link takes gigabytes of memory.
for (const [name, { module, path }] of Object.entries(PROGRAMS)) {
  const program = join(folder, name);
  if (!wanted.includes(name) || existsSync(program)) continue;
  console.log(`building ${name}`);
  const { status, error } = spawnSync("go", ["build", "-trimpath", "-ldflags", flags, "-o", program, path], {
    cwd: join(root, "test/plane", module),
    env: { ...process.env, CGO_ENABLED: "0" },
    stdio: "inherit",
  });
  if (error !== undefined) console.error(`go cannot be run: ${error.message}`);
  if (status !== 0) process.exit(1);
}
const env = {
  ...process.env,
  KUBEBUILDER_ASSETS: folder,
  PATH: `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH}`,
};
if (what === "build") {
  console.log(folder);
  process.exit(0);
}
// Files one after the other: each has a control plane of its own.
const run =
  what === "scale" || what === "peers"
    ? spawnSync(process.execPath, [join(root, `test/plane/${what}.ts`), ...more], { cwd: root, stdio: "inherit", env })
    : spawnSync("vitest", ["run", "--no-file-parallelism", "test/plane"], { cwd: root, stdio: "inherit", env });
process.exit(run.status ?? 1);
