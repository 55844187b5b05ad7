// Makes the Debian package from what is built: the program as one executable, the Python that it starts, the units, the settings, completions and a man page. The same files give the same bytes.
// `node scripts/debian.mjs FOLDER [EXECUTABLE ARCHITECTURE LICENCE]`: EXECUTABLE is what scripts/executable.mjs has made, by default of this Node, whose LICENCE goes along. Needs dpkg-deb.
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
const executable = process.argv[3];
const architecture = process.argv[4] ?? ARCHITECTURES[process.arch];
const nodeLicence = process.argv[5] ?? join(dirname(dirname(realpathSync(process.execPath))), "LICENSE");
const QUIET = { stdio: ["ignore", "ignore", "inherit"] };
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
  const file = join(stage, LIB, "gpuo");
  if (executable === undefined) execFileSync(process.execPath, [join(root, "scripts/executable.mjs"), file], QUIET);
  else put(`${LIB}/gpuo`, readFileSync(executable), 0o755);
  for (const folder of ["executors", "templates"])
    cpSync(join(root, folder), join(stage, LIB, folder), { recursive: true, filter: isNoCache });
  mkdirSync(join(stage, "usr/bin"), { recursive: true });
  for (const name of ["gpuo", "gpu-orchestrator"])
    symlinkSync(`../lib/gpu-orchestrator/gpuo`, join(stage, "usr/bin", name));
}

/** The units are those of a host that was set up by hand, but for where the program is. */
function service() {
  const units = join(root, "deploy/systemd");
  for (const name of ["gpu-orchestrator.service", "gpu-orchestrator-worker.service"]) {
    const unit = readFileSync(join(units, name), "utf8").replaceAll(
      "/opt/gpu-orchestrator/bin/node /opt/gpu-orchestrator/dist/gpu-orchestrator.js",
      `/${LIB}/gpuo`,
    );
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
  const licences = ["LICENSE", nodeLicence].map((file) => readFileSync(resolve(root, file), "utf8"));
  put(
    `${DOC}/copyright`,
    `gpu-orchestrator:\n\n${licences[0]}\n\nNode.js, in /${LIB}/gpuo, and all that it is made of:\n\n${licences[1]}`,
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

/** What Python leaves beside its files. */
function isNoCache(path) {
  return !path.includes("__pycache__");
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
