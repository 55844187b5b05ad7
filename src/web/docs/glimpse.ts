/** A stream that has no end, as a form can show it: what came of it in a while. */

/** In ms. */
const GLIMPSE_MS = 3_000;

/** `fetch`, whose answer ends after a while when it is a stream. */
export async function glimpse(url: string, init: RequestInit): Promise<Response> {
  const answer = await fetch(url, init);
  if (answer.body === null || !(answer.headers.get("content-type") ?? "").startsWith("text/event-stream"))
    return answer;
  const reader = answer.body.getReader();
  const timer = setTimeout(() => void reader.cancel(), GLIMPSE_MS);
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  clearTimeout(timer);
  const { status, statusText, headers } = answer;
  return new Response(text, { status, statusText, headers });
}
