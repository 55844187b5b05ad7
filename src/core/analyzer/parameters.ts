/** Counting a model's parameters, layer by layer. */

export interface ParameterCount {
  /** In linear layers, which quantisation applies to. */
  readonly linear: number;
  /** Embeddings, output projection, norms, biases, routers, convolutions: kept in 16 bit whatever the rest is stored in. */
  readonly other: number;
  /** Inputs plus outputs of the linear layers that LoRA is put on: an adapter of rank r has r times as many parameters. */
  readonly adaptable: number;
}

export const NONE: ParameterCount = { linear: 0, other: 0, adaptable: 0 };

export function linear(inputs: number, outputs: number, bias = false): ParameterCount {
  return { linear: inputs * outputs, other: bias ? outputs : 0, adaptable: inputs + outputs };
}

/** What no quantisation touches. */
export function other(count: number): ParameterCount {
  return { ...NONE, other: count };
}

/** A norm with a weight and a bias. */
export function layerNorm(width: number): ParameterCount {
  return other(2 * width);
}

/** A convolution; `kernel` is the number of its cells. */
export function convolution(inputs: number, outputs: number, kernel: number, bias = true): ParameterCount {
  return other(inputs * outputs * kernel + (bias ? outputs : 0));
}

export function sum(...counts: readonly ParameterCount[]): ParameterCount {
  return counts.reduce(
    (all, one) => ({
      linear: all.linear + one.linear,
      other: all.other + one.other,
      adaptable: all.adaptable + one.adaptable,
    }),
    NONE,
  );
}

export function repeat(count: ParameterCount, times: number): ParameterCount {
  return { linear: count.linear * times, other: count.other * times, adaptable: count.adaptable * times };
}

/** The same layers without adapters: trainers leave experts and vision towers alone by default. */
export function frozen(count: ParameterCount): ParameterCount {
  return { ...count, adaptable: 0 };
}

export function total({ linear, other }: ParameterCount): number {
  return linear + other;
}
