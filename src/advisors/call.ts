/** No advisor has this much to say. */
const MAX_ANSWER_BYTES = 64 * 1024;

/**
 * Calls a service and reads its JSON, a bounded amount of it, following no redirect.
 *
 * @returns `undefined` for a 404.
 * @throws whatever went wrong.
 */
export async function callForJson(url: URL, signal: AbortSignal, body?: object): Promise<unknown> {
  const answer = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    redirect: "error",
    signal,
    headers: { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (answer.status === 404) {
    await answer.body?.cancel();
    return undefined;
  }
  if (answer.status !== 200 || answer.body === null) {
    await answer.body?.cancel();
    throw new Error(`answered ${answer.status}`);
  }
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of answer.body) {
    length += part.length;
    if (length > MAX_ANSWER_BYTES) throw new Error("answered too much");
    parts.push(part);
  }
  return JSON.parse(Buffer.concat(parts).toString("utf8"));
}
