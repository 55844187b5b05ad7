// Makes what users install, into the folder that is named, or packages/, from what is built, with checksums:
//   npm         the npm package with the program, and the TypeScript SDK's
//   python      the Python SDK's wheel and sdist
//   executable  the program in one file, with its licences
//   debian      the Debian package; needs dpkg-deb
//   other       executable and Debian package for arm64 where this is x64, and the other way round; Node's is from npm
//   contents    what is inside them, as SPDX
// `node scripts/package.mjs FOLDER PART...` makes only some of them.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { sourceDate } from "./source-date.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = resolve(process.argv[2] ?? join(root, "packages"));
const stage = join(out, "stage");

// The folder is made anew: one with anything else in it was not meant.
const isOurs = (name) =>
  name === "stage" || name === "SHA256SUMS" || /^gpuo?[-_].*\.(?:tgz|whl|tar\.[gx]z|deb|spdx\.json)$/.test(name);
const strange = existsSync(out) ? readdirSync(out).find((name) => !isOurs(name)) : undefined;
if (strange !== undefined) {
  console.error(`${out} has other files (${strange}): name a folder that is new, empty, or of an earlier run`);
  process.exit(64);
}
rmSync(out, { recursive: true, force: true });
mkdirSync(stage, { recursive: true });
const { version, description, license, engines, bin } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const PARTS = { npm, python, executable, debian, other, contents };
const isByItself = (part) => part !== "other";
const parts = process.argv.length > 3 ? process.argv.slice(3) : Object.keys(PARTS).filter(isByItself);
for (const part of parts) {
  if (PARTS[part] === undefined) {
    console.error(`${part}: expected one of ${Object.keys(PARTS).join(", ")}`);
    process.exit(64);
  }
  PARTS[part]();
}
rmSync(stage, { recursive: true });

const made = readdirSync(out).sort();
const sum = (file) =>
  createHash("sha256")
    .update(readFileSync(join(out, file)))
    .digest("hex");
writeFileSync(join(out, "SHA256SUMS"), made.map((file) => `${sum(file)}  ${file}\n`).join(""));
console.log(made.map((file) => join(out, file)).join("\n"));

function run(command, ...args) {
  execFileSync(command, args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
}

function npm() {
  run(process.execPath, "--disable-warning=ExperimentalWarning", "scripts/build-sdk.mjs", join(stage, "gpuo-client"));
  mkdirSync(join(stage, "gpuo"));
  stageProgram(join(stage, "gpuo"));
  pack(join(stage, "gpuo"));
  pack(join(stage, "gpuo-client"));
}

function python() {
  run("python3", "sdk/python/build.py", out);
}

function executable() {
  archived(process.arch, process.execPath, nodeLicence());
}

function archived(arch, node, licence) {
  const name = `gpuo-${version}-linux-${arch}`;
  const folder = join(stage, name);
  run(process.execPath, "scripts/executable.mjs", join(folder, "gpuo"), node);
  for (const file of ["README.md", "LICENSE"]) cpSync(join(root, file), join(folder, file));
  cpSync(licence, join(folder, "LICENSE.node"));
  const same = [`--mtime=@${sourceDate()}`, "--sort=name", "--owner=0", "--group=0", "--numeric-owner"];
  run("tar", ...same, "--use-compress-program=xz -3", "-cf", join(out, `${name}.tar.xz`), "-C", stage, name);
}

function debian() {
  const made = join(stage, `gpuo-${version}-linux-${process.arch}`, "gpuo");
  run(process.execPath, "scripts/debian.mjs", out, ...(existsSync(made) ? [made] : []));
}

/** The executable holds no compiled code, so that of one architecture is put into the Node of the other. */
function other() {
  const arch = process.arch === "x64" ? "arm64" : "x64";
  const folder = otherNode(`node-linux-${arch}`);
  const licence = join(folder, "LICENSE");
  archived(arch, join(folder, "bin/node"), licence);
  const made = join(stage, `gpuo-${version}-linux-${arch}`, "gpuo");
  run(process.execPath, "scripts/debian.mjs", out, made, arch === "x64" ? "amd64" : arch, licence);
}

/** The Node that the lockfile names, to the byte. */
function otherNode(name) {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages[`node_modules/${name}`];
  const pack = ["pack", "--silent", "--pack-destination", stage, `${name}@${lock.version}`];
  execFileSync("npm", pack, { cwd: stage, stdio: ["ignore", "ignore", "inherit"] });
  const file = join(stage, `${name}-${lock.version}.tgz`);
  const found = `sha512-${createHash("sha512").update(readFileSync(file)).digest("base64")}`;
  if (found !== lock.integrity) throw new Error(`${name}: ${found} is not what package-lock.json has`);
  run("tar", "-xzf", file, "-C", stage, "package/bin/node", "package/LICENSE");
  return join(stage, "package");
}

function contents() {
  run(process.execPath, "scripts/contents.mjs", join(out, `gpuo-${version}.spdx.json`));
}

/** Of the Node that these scripts run on, with those of all that it is made of. */
function nodeLicence() {
  return join(dirname(dirname(realpathSync(process.execPath))), "LICENSE");
}

/** The program is one bundle: what it is installed with has no dependencies. */
function stageProgram(folder) {
  const files = ["dist", "deploy", "templates", "config.yaml.example", "CHANGELOG.md"];
  const manifest = { name: "gpuo", version, description, license, type: "module", engines, bin, files };
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  for (const file of [...files, "README.md", "LICENSE"]) {
    // Maps name the sources, which are not there.
    cpSync(join(root, file), join(folder, file), { recursive: true, filter: (path) => !path.endsWith(".map") });
  }
}

function pack(folder) {
  execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", out], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
  });
}
