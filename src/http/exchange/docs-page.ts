/** The page at `/docs`: Swagger UI, served from the package, so that it needs no internet. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { carried } from "../../platform/executable.ts";
import type { Answer } from "./answers.ts";
import { type Endpoint, endpoint } from "./endpoint.ts";
import { HttpError, type ProblemKind } from "./problems.ts";

const HTML_TYPE = "text/html; charset=utf-8";
const PAGE_HEADERS: readonly string[] = [
  "Content-Security-Policy",
  // Swagger UI puts styles on elements, and its style sheet holds images as data: addresses.
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Frame-Options",
  "DENY",
  "Referrer-Policy",
  "no-referrer",
  "Cache-Control",
  "no-cache",
];
const ASSET_HEADERS: readonly string[] = ["Cache-Control", "public, max-age=3600"];

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gpu-orchestrator API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<noscript>The API is described at <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

/** @param problems are all that the API may answer, by their codes. */
export function docsEndpoints(problems: Readonly<Record<string, ProblemKind>>): readonly Endpoint[] {
  const css = once(() => file("swagger-ui.css"));
  const bundle = once(() => file("swagger-ui-bundle.js"));
  const start = once(() => file("start.js"));
  return [
    page("/docs", () => html(PAGE)),
    page("/docs/problems", () => html(problemsPage(problems))),
    page("/docs/start.js", async () => asset("text/javascript; charset=utf-8", await start())),
    page("/docs/swagger-ui.css", async () => asset("text/css; charset=utf-8", await css())),
    page("/docs/swagger-ui-bundle.js", async () => asset("text/javascript; charset=utf-8", await bundle())),
  ];
}

/** Held once, however many read it: a file read for each would be megabytes for each. A failure is tried again. */
function once(read: () => Promise<Buffer>): () => Promise<Buffer> {
  let held: Promise<Buffer> | null = null;
  return () => {
    held ??= read().catch((error: unknown) => {
      held = null;
      throw error;
    });
    return held;
  };
}

function page(path: string, answer: () => Answer | Promise<Answer>): Endpoint {
  return endpoint(path, "open", { GET: { role: "read", body: "ignored", answer } });
}

function html(body: string): Answer {
  return { status: 200, type: HTML_TYPE, body, headers: PAGE_HEADERS };
}

function asset(type: string, body: string | Buffer): Answer {
  const answer = { status: 200, type, body, headers: ASSET_HEADERS };
  return typeof body === "string" ? answer : { ...answer, isHeld: true };
}

/** Beside the program; run from source, where the build has put it. */
const FOLDERS = ["./docs/", "../../../dist/docs/"].map((path) => fileURLToPath(new URL(path, import.meta.url)));

/** The build makes the script that starts it, and copies Swagger UI's files beside that. */
async function file(name: "swagger-ui.css" | "swagger-ui-bundle.js" | "start.js"): Promise<Buffer> {
  const own = carried(`docs/${name}`);
  if (own !== null) return own;
  const folder = FOLDERS.find((one) => existsSync(one + name));
  if (folder === undefined) throw new HttpError("not-found", "this build has no page: run `npm run build`");
  return readFile(folder + name);
}

/** What a problem's `type` leads to. */
function problemsPage(problems: Readonly<Record<string, ProblemKind>>): string {
  const rows = Object.entries(problems).map(
    ([code, { status, title }]) =>
      `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${title}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>gpu-orchestrator problems</title><link rel="icon" href="data:,"></head>
<body>
<h1>Problems</h1>
<p>Whatever is refused is answered with <code>application/problem+json</code> (RFC 9457), and one of these codes.</p>
<table>
<thead><tr><th>code</th><th>status</th><th>meaning</th></tr></thead>
<tbody>
${rows.join("\n")}
</tbody>
</table>
</body>
</html>
`;
}
