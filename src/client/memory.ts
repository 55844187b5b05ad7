/** MiB: `20G` and `20GiB` are GiB, `20GB` is 10^9 bytes, a bare number MiB; `null` when it is none of these. */
export function parseMemoryMib(text: string): number | null {
  const found = /^(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?B)?)?$/i.exec(text.trim());
  if (found === null) return null;
  const [, amount = "", unit = "M", bytes = ""] = found;
  const power = "KMGT".indexOf(unit.toUpperCase()) + 1;
  const isDecimal = bytes.toUpperCase() === "B";
  const mib = isDecimal ? (Number(amount) * 1_000 ** power) / 2 ** 20 : Number(amount) * 1_024 ** (power - 2);
  // Rounded up: less than was asked for would be too little.
  const whole = Math.ceil(mib - 1e-9);
  return whole >= 1 && Number.isSafeInteger(whole) ? whole : null;
}
