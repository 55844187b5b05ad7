// What the packages are made of, as SPDX 2.3: the program, Node, and each package of which a part is bundled into it. Taken from what the bundler read, so that it cannot lag behind.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { sourceDate } from "./source-date.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const manifestOf = (folder) => JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
const { name, version, license } = manifestOf(".");

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ["src/cli/launch.ts", "src/store/store-worker.ts", "src/worker/holder.ts", "src/web/main.tsx"],
  outdir: "nowhere",
  bundle: true,
  write: false,
  metafile: true,
  splitting: true,
  format: "esm",
  platform: "node",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "error",
});
const folders = new Set(Object.keys(metafile.inputs).flatMap((file) => packageOf(file) ?? []));
// Copied rather than bundled.
folders.add("node_modules/swagger-ui-dist");

const own = { SPDXID: "SPDXRef-program", name, versionInfo: version, licenseDeclared: license };
const node = { SPDXID: "SPDXRef-node", name: "node", versionInfo: process.versions.node, licenseDeclared: "MIT" };
const bundled = [...folders].sort().map((folder, at) => {
  const manifest = manifestOf(folder);
  return {
    SPDXID: `SPDXRef-${at}`,
    name: manifest.name,
    versionInfo: manifest.version,
    licenseDeclared: typeof manifest.license === "string" ? manifest.license : "NOASSERTION",
    externalRefs: [
      {
        referenceCategory: "PACKAGE-MANAGER",
        referenceType: "purl",
        referenceLocator: `pkg:npm/${manifest.name.replace("@", "%40")}@${manifest.version}`,
      },
    ],
  };
});
const rest = {
  downloadLocation: "NOASSERTION",
  filesAnalyzed: false,
  licenseConcluded: "NOASSERTION",
  copyrightText: "NOASSERTION",
};
const document = {
  spdxVersion: "SPDX-2.3",
  dataLicense: "CC0-1.0",
  SPDXID: "SPDXRef-DOCUMENT",
  name: `${name}-${version}`,
  documentNamespace: `urn:${name}:${version}:${sourceDate()}`,
  creationInfo: {
    created: new Date(sourceDate() * 1_000).toISOString().replace(/\.\d+Z$/, "Z"),
    creators: [`Tool: ${name}-contents-${version}`],
  },
  packages: [own, node, ...bundled].map((one) => ({ ...one, ...rest })),
  relationships: [
    { spdxElementId: "SPDXRef-DOCUMENT", relationshipType: "DESCRIBES", relatedSpdxElement: own.SPDXID },
    ...[node, ...bundled].map(({ SPDXID }) => ({
      spdxElementId: own.SPDXID,
      relationshipType: "CONTAINS",
      relatedSpdxElement: SPDXID,
    })),
  ],
};
writeFileSync(process.argv[2] ?? "gpuo.spdx.json", `${JSON.stringify(document, null, 2)}\n`);

/** The folder of the package that a file belongs to; `null`: it is our own. */
function packageOf(file) {
  if (!file.includes("node_modules/")) return null;
  // Some have a package.json without a name in a folder for each kind of module.
  for (let folder = dirname(file); folder !== "."; folder = dirname(folder)) {
    if (existsSync(join(root, folder, "package.json")) && manifestOf(folder).version !== undefined) return folder;
  }
  return null;
}
