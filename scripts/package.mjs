// Makes what users install, into the folder that is named, or packages/, from what is built: the npm package with the program, those of the two SDKs, and their checksums.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = resolve(process.argv[2] ?? join(root, "packages"));
const stage = join(out, "stage");

// The folder is made anew: one with anything else in it was not meant.
const isOurs = (name) => name === "stage" || name === "SHA256SUMS" || /^gpuo[-_].*\.(?:tgz|whl|tar\.gz)$/.test(name);
const strange = existsSync(out) ? readdirSync(out).find((name) => !isOurs(name)) : undefined;
if (strange !== undefined) {
  console.error(`${out} has other files (${strange}): name a folder that is new, empty, or of an earlier run`);
  process.exit(64);
}
rmSync(out, { recursive: true, force: true });
mkdirSync(join(stage, "gpuo"), { recursive: true });
run(process.execPath, "--disable-warning=ExperimentalWarning", "scripts/build-sdk.mjs", join(stage, "gpuo-client"));
stageProgram(join(stage, "gpuo"));
pack(join(stage, "gpuo"));
pack(join(stage, "gpuo-client"));
run("python3", "sdk/python/build.py", out);
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

/** The program is one bundle: what it is installed with has no dependencies. */
function stageProgram(folder) {
  const { version, description, license, engines, bin } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
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
