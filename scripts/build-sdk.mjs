// Builds the TypeScript SDK into the folder that is named, or sdk/typescript: the client as it is, with types made from the OpenAPI document in the place of those made from the schemas.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { openApiDocument } from "../src/http/service/openapi.ts";
import { TASK_WEBHOOK, WORK_PATHS } from "../src/work-service/described.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const home = join(root, "sdk", "typescript");
const sdk = resolve(process.argv[2] ?? home);
const { version } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));

for (const folder of ["src", "dist"]) rmSync(join(sdk, folder), { recursive: true, force: true });
mkdirSync(join(sdk, "src"), { recursive: true });
if (sdk !== home)
  for (const file of ["package.json", "README.md", "tsconfig.json"]) cpSync(join(home, file), join(sdk, file));
for (const file of readdirSync(join(root, "src", "client"))) {
  if (file !== "types.ts") cpSync(join(root, "src", "client", file), join(sdk, "src", file));
}
const work = { paths: WORK_PATHS, taskWebhook: TASK_WEBHOOK };
writeFileSync(join(sdk, "src", "types.ts"), typesOf(openApiDocument({ version, headerName: "X-API-Key", work })));
const types = join(root, "node_modules", "@types");
execFileSync(
  process.execPath,
  [join(root, "node_modules", "typescript", "bin", "tsc"), "-p", sdk, "--typeRoots", types],
  {
    stdio: "inherit",
  },
);

function typesOf({ components, paths }) {
  const bodyOf = (path) => paths[path].post.requestBody.content["application/json"].schema;
  const named = {
    ...components.schemas,
    AllocateBody: bodyOf("/gpu/allocate"),
    WorkloadBody: bodyOf("/gpu/workload"),
    ReservationBody: bodyOf("/gpu/reservations"),
  };
  const types = Object.entries(named).map(
    ([name, schema]) => `${comment(schema)}export type ${name} = ${typeOf(schema)};`,
  );
  return `// Made from the OpenAPI document by scripts/build-sdk.mjs.\n\n${types.join("\n\n")}\n`;
}

function comment({ description }) {
  return description === undefined ? "" : `/** ${description.replaceAll("*/", "* /")} */\n`;
}

function typeOf(schema) {
  if (schema.$ref !== undefined) return schema.$ref.slice(schema.$ref.lastIndexOf("/") + 1);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const variants = schema.anyOf ?? schema.oneOf;
  if (variants !== undefined) return `(${variants.map(typeOf).join(" | ")})`;
  if (schema.allOf !== undefined) return `(${schema.allOf.map(typeOf).join(" & ")})`;
  if (Array.isArray(schema.type)) return schema.type.map((type) => typeOf({ ...schema, type })).join(" | ");
  switch (schema.type) {
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case "integer":
    case "number":
      return "number";
    case "array":
      return `readonly (${schema.items === undefined ? "unknown" : typeOf(schema.items)})[]`;
    case "object":
      return objectOf(schema);
    default:
      return "unknown";
  }
}

function objectOf({ properties = {}, required = [], additionalProperties }) {
  const fields = Object.entries(properties).map(([name, schema]) => {
    const key = /^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name);
    return `${comment(schema)}readonly ${key}${required.includes(name) ? "" : "?"}: ${typeOf(schema)};`;
  });
  if (fields.length === 0) {
    const values = typeof additionalProperties === "object" ? typeOf(additionalProperties) : "unknown";
    return `{ readonly [name: string]: ${values} }`;
  }
  // What is loose stays loose: facts about a workload are the caller's own.
  const open =
    additionalProperties !== undefined && additionalProperties !== false ? ["readonly [name: string]: unknown;"] : [];
  return `{\n${[...fields, ...open].join("\n").replace(/^/gm, "  ")}\n}`;
}
