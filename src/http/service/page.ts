/** The page at `/`, for browsers: made by the build, and a client of the API like any other. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { carried } from "../../platform/executable.ts";
import type { Answer } from "../exchange/answers.ts";
import { type Call, type Endpoint, endpoint } from "../exchange/endpoint.ts";
import { HttpError } from "../exchange/problems.ts";

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const PAGE_HEADERS: readonly string[] = [
  ...["Content-Security-Policy", POLICY],
  ...["X-Frame-Options", "DENY"],
  ...["Referrer-Policy", "no-referrer"],
  ...["Cross-Origin-Opener-Policy", "same-origin"],
  ...["Permissions-Policy", "camera=(), microphone=(), geolocation=()"],
  ...["Cache-Control", "no-cache"],
];
/** The page asks for each by an address of its own that changes with what is in it. */
const ASSET_HEADERS: readonly string[] = ["Cache-Control", "public, max-age=31536000, immutable"];
/** What stands here when no page does: the same as anywhere else, and where to go from here. */
const LINKS: readonly string[] = [
  ...["Link", '</openapi.json>; rel="service-desc", </docs>; rel="service-doc"'],
  ...["Vary", "Accept"],
];

const TYPES = {
  "index.html": "text/html; charset=utf-8",
  "main.js": "text/javascript; charset=utf-8",
  "main.css": "text/css; charset=utf-8",
  "icon.svg": "image/svg+xml",
} as const;
type FileName = keyof typeof TYPES;

/** Beside the program; run from source, where the build has put it. */
const FOLDERS = ["./web/", "../../../dist/web/"].map((path) => fileURLToPath(new URL(path, import.meta.url)));

export function pageEndpoints(): readonly Endpoint[] {
  const assets = (["main.js", "main.css", "icon.svg"] as const).map((name) =>
    open(`/page/${name}`, (call) => file(name, call, ASSET_HEADERS)),
  );
  return [open("/", root), ...assets];
}

function open(path: string, answer: (call: Call) => Promise<Answer>): Endpoint {
  return endpoint(path, "open", { GET: { role: "read", body: "ignored", answer } });
}

async function root(call: Call): Promise<Answer> {
  if (wantsPage(call.accept)) return file("index.html", call, PAGE_HEADERS);
  throw new HttpError("not-found", "the API is described at /openapi.json, and for people at /docs", {
    headers: LINKS,
  });
}

/** Browsers name `text/html`; programs that take anything do not. */
function wantsPage(accept: string | undefined): boolean {
  return accept !== undefined && /(^|,)\s*text\/html\s*(;(?!\s*q=0(\.0*)?\s*(,|$))|,|$)/i.test(accept);
}

/** The build has made a compressed copy of each, so that nothing is compressed at run time. */
async function file(name: FileName, { acceptEncoding }: Call, headers: readonly string[]): Promise<Answer> {
  const coding = codingOf(acceptEncoding);
  const copy = name + (coding === null ? "" : coding.ending);
  const body = carried(`web/${copy}`) ?? (await readFile(folderOf(name) + copy));
  const vary = name === "index.html" ? "Accept, Accept-Encoding" : "Accept-Encoding";
  const encoding = coding === null ? [] : ["Content-Encoding", coding.name];
  return { status: 200, type: TYPES[name], body, headers: [...headers, "Vary", vary, ...encoding] };
}

function folderOf(name: FileName): string {
  const folder = FOLDERS.find((one) => existsSync(one + name));
  if (folder === undefined) throw new HttpError("not-found", "this build has no page: run `npm run build`");
  return folder;
}

function codingOf(acceptEncoding: string | undefined): { readonly name: string; readonly ending: string } | null {
  const names = (acceptEncoding ?? "").split(",").map((one) => one.trim().toLowerCase());
  if (names.includes("br")) return { name: "br", ending: ".br" };
  return names.includes("gzip") ? { name: "gzip", ending: ".gz" } : null;
}
