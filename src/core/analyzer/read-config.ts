import type { JsonObject } from "../base/json.ts";
import type { Architecture } from "./architecture.ts";
import { decoder } from "./decoder.ts";
import { diffusionPipeline } from "./diffusion.ts";
import { Fields, UnreadableConfig } from "./fields.ts";
import { sum } from "./parameters.ts";
import { textEncoder, visionEncoderDecoder, visionTower, whisper } from "./towers.ts";

/** Why a model's fields say nothing about its memory. */
export interface Unreadable {
  readonly problem: string;
}

const TEXT_ENCODERS: ReadonlySet<string> = new Set(["bert", "roberta", "xlm-roberta"]);

/**
 * Reads what a model's memory follows from out of its `config.json` (or, of a diffusion pipeline, of its parts').
 *
 * Total: whatever JSON it gets, it answers, and no figure of the answer is negative or not finite.
 */
export function readConfig(config: JsonObject): Architecture | Unreadable {
  try {
    return read(new Fields(config));
  } catch (error) {
    if (error instanceof UnreadableConfig) return { problem: error.message };
    throw error;
  }
}

export function isReadable(read: Architecture | Unreadable): read is Architecture {
  return "parameters" in read;
}

function read(fields: Fields): Architecture {
  const family = fields.text("model_type");
  if (fields.part("unet") !== null || fields.part("transformer") !== null) return diffusionPipeline(fields);
  if (family === "whisper") return whisper(fields);
  if (TEXT_ENCODERS.has(family)) return textEncoder(fields);
  const encoder = fields.part("encoder");
  const written = fields.part("decoder");
  if (encoder !== null && written !== null) return visionEncoderDecoder(encoder, written);

  const text = fields.part("text_config");
  const language = decoder(text ?? fields, text?.text("model_type") || family);
  const vision = fields.part("vision_config");
  if (vision === null || (family === "llama4" && !vision.has("hidden_size"))) return language;
  return {
    ...language,
    parameters: sum(language.parameters, visionTower(vision, family, language.hiddenSize)),
  };
}
