// Makes the Debian package from what is built: the program with the Node that it runs on, the units, the settings, completions and a man page. The same files give the same bytes.
// `node scripts/debian.mjs FOLDER [NODE ARCHITECTURE]`: NODE is the binary that goes in, this one by default. Needs dpkg-deb.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { manualPage } from "./manual.mjs";
import { sourceDate } from "./source-date.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const { version, description } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const ARCHITECTURES = { x64: "amd64", arm64: "arm64" };
const out = resolve(process.argv[2] ?? "packages");
const node = process.argv[3] ?? process.execPath;
const architecture = process.argv[4] ?? ARCHITECTURES[process.arch];
const LIB = "usr/lib/gpu-orchestrator";
const DOC = "usr/share/doc/gpu-orchestrator";

const stage = mkdtempSync(join(tmpdir(), "gpuo-debian-"));
try {
  program();
  service();
  documentation();
  control();
  const seconds = sourceDate();
  for (const path of filesUnder(stage, { folders: true })) lutimesSync(path, seconds, seconds);
  mkdirSync(out, { recursive: true });
  const file = join(out, `gpu-orchestrator_${version}_${architecture}.deb`);
  execFileSync("dpkg-deb", ["--root-owner-group", "-Zxz", "-z3", "--build", stage, file], {
    env: { ...process.env, SOURCE_DATE_EPOCH: String(seconds) },
    stdio: ["ignore", "ignore", "inherit"],
  });
} finally {
  rmSync(stage, { recursive: true });
}

function program() {
  put(`${LIB}/bin/node`, readFileSync(node), 0o755);
  for (const folder of ["dist", "templates"]) {
    // Maps name the sources, which are not there.
    cpSync(join(root, folder), join(stage, LIB, folder), { recursive: true, filter: (path) => !path.endsWith(".map") });
  }
  put(`${LIB}/package.json`, `${JSON.stringify({ name: "gpu-orchestrator", version, type: "module" }, null, 2)}\n`);
  put("usr/bin/gpuo", readFileSync(join(root, "deploy/debian/gpuo")), 0o755);
  symlinkSync("gpuo", join(stage, "usr/bin/gpu-orchestrator"));
}

/** The units are those of a host that was set up by hand, but for where the program is. */
function service() {
  const units = join(root, "deploy/systemd");
  for (const name of ["gpu-orchestrator.service", "gpu-orchestrator-worker.service"]) {
    const unit = readFileSync(join(units, name), "utf8").replaceAll("/opt/gpu-orchestrator/", `/${LIB}/`);
    put(`usr/lib/systemd/system/${name}`, unit);
  }
  put("usr/lib/sysusers.d/gpu-orchestrator.conf", readFileSync(join(units, "gpu-orchestrator.sysusers.conf")));
  put("etc/gpu-orchestrator/config.yaml", readFileSync(join(root, "config.yaml.example")), 0o640);
}

function documentation() {
  const completion = (shell) =>
    execFileSync(process.execPath, ["dist/gpu-orchestrator.js", "completion", shell], { cwd: root });
  put("usr/share/bash-completion/completions/gpuo", completion("bash"));
  put("usr/share/zsh/vendor-completions/_gpuo", completion("zsh"));
  put("usr/share/fish/vendor_completions.d/gpuo.fish", completion("fish"));
  put(
    "usr/share/man/man1/gpuo.1.gz",
    gzipSync(manualPage(join(root, "dist/gpu-orchestrator.js"), version), { level: 9 }),
  );
  put(`${DOC}/changelog.gz`, gzipSync(readFileSync(join(root, "CHANGELOG.md")), { level: 9 }));
  put(`${DOC}/README.md`, readFileSync(join(root, "README.md")));
  const licences = ["LICENSE", join(dirname(dirname(realpathSync(node))), "LICENSE")].map((file) =>
    readFileSync(resolve(root, file), "utf8"),
  );
  put(
    `${DOC}/copyright`,
    `gpu-orchestrator:\n\n${licences[0]}\n\nNode.js, in /${LIB}/bin, and all that it is made of:\n\n${licences[1]}`,
  );
  cpSync(join(root, "deploy"), join(stage, DOC, "deploy"), {
    recursive: true,
    filter: (path) => !path.includes("debian"),
  });
}

function control() {
  const bytes = filesUnder(stage).reduce((sum, file) => sum + lstatSync(file).size, 0);
  const fields = {
    Package: "gpu-orchestrator",
    Version: version,
    Architecture: architecture,
    Maintainer: "gpu-orchestrator contributors <noreply@localhost>",
    "Installed-Size": Math.ceil(bytes / 1_024),
    Depends: "libc6 (>= 2.28), libstdc++6, init-system-helpers, systemd (>= 246)",
    Recommends: "util-linux, perl-base",
    Section: "admin",
    Priority: "optional",
    Description: `${description}\n gpuo run leases GPUs for a command and gives them back when it ends. The daemon\n does not hand out a GPU that is in use without a lease, or that is sick.`,
  };
  const text = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`);
  put("DEBIAN/control", text.join(""));
  put("DEBIAN/conffiles", "/etc/gpu-orchestrator/config.yaml\n");
  for (const script of ["postinst", "prerm", "postrm"])
    put(`DEBIAN/${script}`, readFileSync(join(root, "deploy/debian", script)), 0o755);
  const sums = filesUnder(stage)
    .map((file) => [file, file.slice(stage.length + 1)])
    .filter(([file, name]) => !name.startsWith("DEBIAN/") && !name.startsWith("etc/") && lstatSync(file).isFile())
    .map(([file, name]) => `${createHash("md5").update(readFileSync(file)).digest("hex")}  ${name}\n`);
  put("DEBIAN/md5sums", sums.join(""));
}

function put(path, content, mode = 0o644) {
  const file = join(stage, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
}

/** In an order that does not depend on the disk. */
function filesUnder(folder, { folders = false } = {}) {
  const found = readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? filesUnder(path, { folders }) : [path];
    });
  if (folders) chmodSync(folder, 0o755);
  return folders ? [...found, folder] : found;
}
