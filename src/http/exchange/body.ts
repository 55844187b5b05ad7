/**
 * JSON bodies, read by hand: express.json costs 10 to 20 us a request more, which is a third of what a request may
 * cost altogether.
 */
import { isAscii, isUtf8 } from "node:buffer";
import type { IncomingMessage } from "node:http";
import { HttpError, invalid } from "./problems.ts";

export const MAX_BODY_BYTES = 64 * 1_024;
export const MAX_BODY_DEPTH = 32;

export const MAX_TEXT_BYTES = 1_024 * 1_024;
const YAML_TYPES: ReadonlySet<string> = new Set(["text/yaml", "application/yaml", "application/x-yaml", "text/x-yaml"]);

/** A body whose reader parses it. */
export interface TextBody {
  readonly text: string;
  readonly isYaml: boolean;
}

/** The connection closed before the request was whole: nobody is left to answer. */
export class ClientGoneError extends Error {}

/**
 * Reads the body of a request and parses it. Without a promise, which would cost each request two turns of the queue
 * of microtasks.
 *
 * @param done is told the body once, perhaps at once, and how large it was; `undefined`: there is none.
 * @param fail is told, instead, an HttpError (413; 415; 400 when it is not JSON; 422 when it is nested too deep) or a
 *   ClientGoneError.
 */
export function readJson(
  req: IncomingMessage,
  done: (body: unknown, bytes: number) => void,
  fail: (error: HttpError | ClientGoneError) => void,
): void {
  const { "content-length": length, "transfer-encoding": coding } = req.headers;
  if (coding === undefined && (length === undefined || length === "0")) {
    done(undefined, 0);
    return;
  }
  const refusal = typeRefusal(req) ?? sizeRefusal(length, MAX_BODY_BYTES);
  if (refusal !== null) {
    fail(refusal);
    return;
  }
  readBytes(
    req,
    MAX_BODY_BYTES,
    (bytes) => {
      const body = parsed(bytes);
      if (body instanceof HttpError) fail(body);
      else done(body, bytes.length);
    },
    fail,
  );
}

/**
 * Reads the body of a request that may be YAML or JSON, unparsed.
 *
 * @param done is told it once, and how large it was; `undefined`: there is none.
 * @param fail is told, instead, an HttpError (413; 415; 400 when it is not UTF-8) or a ClientGoneError.
 */
export function readText(
  req: IncomingMessage,
  done: (body: TextBody | undefined, bytes: number) => void,
  fail: (error: HttpError | ClientGoneError) => void,
): void {
  const { "content-length": length, "transfer-encoding": coding, "content-type": type = "" } = req.headers;
  if (coding === undefined && (length === undefined || length === "0")) {
    done(undefined, 0);
    return;
  }
  const isYaml = YAML_TYPES.has((type.split(";")[0] as string).trim().toLowerCase());
  const refusal = (isYaml ? null : typeRefusal(req)) ?? sizeRefusal(length, MAX_TEXT_BYTES);
  if (refusal !== null) {
    fail(refusal);
    return;
  }
  readBytes(
    req,
    MAX_TEXT_BYTES,
    (bytes) => {
      if (bytes.length === 0) done(undefined, 0);
      else if (!isUtf8(bytes)) fail(new HttpError("malformed-json", "the body is not UTF-8"));
      else done({ text: bytes.toString("utf8"), isYaml }, bytes.length);
    },
    fail,
  );
}

/** The value; an HttpError when it is not JSON, or nested too deep. */
function parsed(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined;
  const ascii = isAscii(bytes);
  if (!ascii && !isUtf8(bytes)) return new HttpError("malformed-json", "the body is not UTF-8");
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString(ascii ? "latin1" : "utf8"));
  } catch {
    // The parser's own message repeats the body.
    return new HttpError("malformed-json", "the body is not well-formed JSON");
  }
  if (nestedDeeperThan(MAX_BODY_DEPTH, value)) {
    return invalid([{ path: "", message: `nested deeper than ${MAX_BODY_DEPTH} levels` }]);
  }
  return value;
}

/**
 * Why a body of this type is not taken; `null`: it is. Also what keeps a page of another origin from sending one
 * without being asked: its forms cannot send this type.
 */
function typeRefusal(req: IncomingMessage): HttpError | null {
  const { "content-type": type = "", "content-encoding": encoding } = req.headers;
  if (type !== "application/json") {
    const [name = "", ...parameters] = type.split(";").map((part) => part.trim().toLowerCase());
    const charset = parameters.find((parameter) => parameter.startsWith("charset="))?.slice("charset=".length);
    const isUtf8Text = charset === undefined || charset === "utf-8" || charset === '"utf-8"';
    if (name !== "application/json" || !isUtf8Text) {
      return new HttpError("unsupported-media-type", "send application/json in UTF-8", ACCEPT_JSON);
    }
  }
  if (encoding !== undefined && encoding.toLowerCase() !== "identity") {
    return new HttpError("unsupported-media-type", "compressed bodies are not taken", ACCEPT_JSON);
  }
  return null;
}

const ACCEPT_JSON = { headers: ["Accept", "application/json", "Accept-Encoding", "identity"] };

function tooLarge(maxBytes: number): HttpError {
  return new HttpError("body-too-large", `a body may have ${maxBytes} bytes`);
}

function sizeRefusal(length: string | undefined, maxBytes: number): HttpError | null {
  return length !== undefined && Number(length) > maxBytes ? tooLarge(maxBytes) : null;
}

function readBytes(
  req: IncomingMessage,
  maxBytes: number,
  done: (bytes: Buffer) => void,
  fail: (error: HttpError | ClientGoneError) => void,
): void {
  const chunks: Buffer[] = [];
  let size = 0;
  let isOver = false;
  const end = (tell: () => void) => {
    if (isOver) return;
    isOver = true;
    tell();
  };
  req.on("data", (chunk: Buffer) => {
    size += chunk.length;
    // The rest is read and dropped, so that the client, still sending, gets its answer; the read timeout ends it.
    if (size > maxBytes) end(() => fail(tooLarge(maxBytes)));
    else chunks.push(chunk);
  });
  req.on("end", () => end(() => done(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, size))));
  req.on("error", () => end(() => fail(new ClientGoneError())));
  req.on("close", () => {
    if (!req.complete) end(() => fail(new ClientGoneError()));
  });
}

/** Level by level, so that no depth can exhaust the stack. */
function nestedDeeperThan(limit: number, value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; ; depth++) {
    const inner: unknown[] = [];
    for (const item of level) {
      if (typeof item !== "object" || item === null) continue;
      if (depth === limit) return true;
      for (const child of Object.values(item)) if (typeof child === "object" && child !== null) inner.push(child);
    }
    if (inner.length === 0) return false;
    level = inner;
  }
}
