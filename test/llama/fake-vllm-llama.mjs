// A FAKE of `vllm serve` with a real model behind it: llama.cpp, on one thread, serves the GGUF that FAKE_VLLM_GGUF names.
import { createServer } from "node:http";
import { getLlama, LlamaCompletion } from "node-llama-cpp";
import { drainOnSigterm, serveFlags } from "../fixtures/vllm-flags.mjs";

const given = serveFlags(process.argv.slice(2));
const name = given["--served-model-name"];
const key = process.env.VLLM_API_KEY;
const model = await (await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: "error" })).loadModel({
  modelPath: process.env.FAKE_VLLM_GGUF,
});
const context = await model.createContext({ contextSize: Number(given["--max-model-len"] ?? 256), threads: 1 });
const completion = new LlamaCompletion({ contextSequence: context.getSequence() });

/** One prompt after the other: there is one sequence. */
let turn = Promise.resolve();
let underWay = 0;

async function complete({ prompt, max_tokens: maxTokens = 16, temperature = 1, top_p: topP, top_k: topK, seed }) {
  const promptTokens = model.tokenize(prompt);
  const sampling = { temperature, topP, ...(topK > 0 ? { topK } : {}), ...(seed === undefined ? {} : { seed }) };
  const { response, metadata } = await completion.generateCompletionWithMeta(promptTokens, { maxTokens, ...sampling });
  const written = model.tokenize(response).length;
  return {
    object: "text_completion",
    model: name,
    choices: [{ index: 0, text: response, finish_reason: metadata.stopReason === "maxTokens" ? "length" : "stop" }],
    usage: {
      prompt_tokens: promptTokens.length,
      completion_tokens: written,
      total_tokens: promptTokens.length + written,
    },
  };
}

const server = createServer(async (req, res) => {
  const json = (status, body) => {
    res.writeHead(status, { "Content-Type": "application/json" });
    res.end(JSON.stringify(body));
  };
  if (req.url === "/health") return json(200, {});
  if (key !== undefined && req.headers.authorization !== `Bearer ${key}`) return json(401, { error: "Unauthorized" });
  if (req.url === "/v1/models") return json(200, { object: "list", data: [{ id: name, object: "model" }] });
  if (req.url !== "/v1/completions") return json(404, {});
  underWay++;
  try {
    let text = "";
    for await (const chunk of req) text += chunk;
    const asked = JSON.parse(text);
    if (asked.model !== name) return json(404, { error: `no model ${asked.model}` });
    const answer = turn.then(() => complete(asked));
    turn = answer.then(
      () => undefined,
      () => undefined,
    );
    json(200, await answer);
  } catch (error) {
    json(500, { error: String(error) });
  } finally {
    underWay--;
  }
});
server.listen(Number(given["--port"]), given["--host"], () => console.log("FAKE vllm on llama.cpp: serving"));
drainOnSigterm(() => underWay);
