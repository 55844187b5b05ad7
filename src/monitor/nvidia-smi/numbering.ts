/**
 * The numbers by which the driver counts GPUs, which are what `nvidia-smi -i` takes.
 *
 *  1. The document does not tell them. It shows the GPUs in their order, so a document that shows all tells them by that.
 *  2. A GPU that it leaves out although the driver counts it is counted where its number or its PCI address puts it: the
 *     driver counts by address. Where some are left out of which neither is known, `nvidia-smi -L` tells the numbers.
 *  3. No two GPUs have one number, whatever the driver says.
 */
import type { ListedGpu } from "./listing.ts";

export interface Counted {
  readonly uuid: string;
  readonly pciBusId: string | null;
}

export interface LeftOut {
  readonly pciBusId: string;
  /** As the driver says; `null`: it does not. */
  readonly index: number | null;
}

/**
 * @param shown in the order of the document.
 * @param leftOut GPUs that the driver counts and does not show, as far as they are known.
 * @param listing what `nvidia-smi -L` lists, where it was asked.
 * @returns the number of each of `shown`, then of each of `leftOut`.
 */
export function numbersOf(
  shown: readonly Counted[],
  leftOut: readonly LeftOut[],
  listing: readonly ListedGpu[] | null,
): readonly number[] {
  const listed = listing === null ? null : listedNumbers(shown, listing);
  const taken = new Map<number, number>();
  const numbers: (number | null)[] = [...shown, ...leftOut].map(() => null);
  const take = (place: number, number: number) => {
    if (taken.has(number)) return;
    taken.set(number, place);
    numbers[place] = number;
  };
  listed?.forEach((number, place) => {
    take(place, number);
  });
  leftOut.forEach(({ index }, n) => {
    if (index !== null) take(shown.length + n, index);
  });
  for (const place of byAddress(shown, leftOut)) {
    if (numbers[place] !== null) continue;
    let number = 0;
    while (taken.has(number)) number++;
    take(place, number);
  }
  return numbers as number[];
}

function listedNumbers(shown: readonly Counted[], listing: readonly ListedGpu[]): readonly number[] | null {
  const numbers = shown.map(({ uuid }) => listing.find((gpu) => gpu.uuid === uuid)?.index);
  const known = numbers.filter((number) => number !== undefined);
  return known.length === shown.length && new Set(known).size === known.length ? known : null;
}

/** The places in the driver's order: that of the document, with those that it leaves out put in by their addresses. */
function byAddress(shown: readonly Counted[], leftOut: readonly LeftOut[]): readonly number[] {
  const order = shown.map((_, place) => place);
  const addressOf = (place: number) => (shown[place] ?? leftOut[place - shown.length])?.pciBusId ?? null;
  for (const n of leftOut.keys()) {
    const place = shown.length + n;
    const address = addressValue(addressOf(place));
    const next = order.findIndex((other) => addressValue(addressOf(other)) > address);
    order.splice(next < 0 ? order.length : next, 0, place);
  }
  return order;
}

/** A number that grows with the address; one that cannot be read comes last. */
function addressValue(address: string | null): number {
  const parts = address?.split(/[:.]/).map((part) => Number.parseInt(part, 16)) ?? [];
  const [domain = Number.NaN, bus = Number.NaN, device = Number.NaN] = parts;
  const value = (domain * 256 + bus) * 256 + device;
  return Number.isNaN(value) ? Infinity : value;
}
