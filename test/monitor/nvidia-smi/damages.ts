/** Ways in which output gets damaged or is made to deceive. All are repeatable from a seed. */

export type Random = (below: number) => number;

/** Mulberry32: small, and the same on every machine. */
export function seeded(seed: number): Random {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function oneOf<T>(values: readonly T[], random: Random): T {
  return values[random(values.length)] as T;
}

const SCRAPS = [
  "<",
  ">",
  "</",
  "/>",
  "&",
  "\uFFFD",
  "\0",
  "<gpu>",
  "</gpu>",
  '<gpu id="00000000:99:00.0">',
  "<nvidia_smi_log>",
  "</nvidia_smi_log>",
  "<!--",
  "-->",
  "<![CDATA[",
  "]]>",
  "<process_name>",
  "</process_name>",
  "<supported_clocks>",
  "</supported_clocks>",
  "<fb_memory_usage><used>0 MiB</used></fb_memory_usage>",
  "<uuid>GPU-scrap</uuid>",
  "<__proto__>",
  "N/A",
  "0",
  "999999999999999999999 MiB",
] as const;

const bomb = `<!DOCTYPE x [<!ENTITY a0 "0 MiB">${Array.from({ length: 12 }, (_, i) => `<!ENTITY a${i + 1} "${`&a${i};`.repeat(10)}">`).join("")}]>`;

/** What a local user may call his process, and what XML allows and no driver prints. */
const HOSTILE = [
  bomb,
  "&a12;",
  "&#0;",
  "&#x110000;",
  "&amp;amp;lt;",
  "\u202E\u2066GPU is lost\u2069",
  "\u001B[2J\u001B[31m",
  "\uD800",
  "<x>".repeat(40) + "</x>".repeat(40),
  "<x>".repeat(2_000) + "</x>".repeat(2_000),
  "<x/>".repeat(20_000),
  `<x y="${"A".repeat(100_000)}"/>`,
  `<x ${Array.from({ length: 200 }, (_, i) => `a${i}=""`).join(" ")}/>`,
  " ".repeat(50_000),
  "<!-- <gpu></gpu> -->",
  "<![CDATA[<gpu></gpu>]]>",
  "<?php echo 1 ?>",
  "<process_info><pid>1</pid></process_info>",
  "<processes></processes>",
  "<mig_devices><mig_device><index>0</index></mig_device></mig_devices>",
] as const;

/** What a driver prints when it has no value. */
const NO_VALUES = ["N/A", "[Not Supported]", "Unknown Error", "ERR!", "GPU is lost", "", "nan", "- MiB"] as const;
const VALUE = />([^<>]*[0-9][^<>]*)<\//g;

/** @param other another document, to take pieces from. */
export type Damage = (text: string, random: Random, other: string) => string;

/** The element that begins nearest before a place chosen at random, without regard to elements of its name inside. */
function someElement(text: string, random: Random): { readonly from: number; readonly to: number } | null {
  const from = text.lastIndexOf("<", random(text.length));
  const tag = from < 0 ? undefined : /^<([a-z_]+)/.exec(text.slice(from, from + 64))?.[1];
  if (tag === undefined) return null;
  const end = text.indexOf(`</${tag}>`, from);
  return end < 0 ? null : { from, to: end + tag.length + 3 };
}

function someGpu(text: string, random: Random): { readonly from: number; readonly to: number } | null {
  const begins = [...text.matchAll(/<gpu[\s>]/g)].map(({ index }) => index);
  const from = begins[random(Math.max(1, begins.length))];
  const end = from === undefined ? -1 : text.indexOf("</gpu>", from);
  return from === undefined || end < 0 ? null : { from, to: end + "</gpu>".length };
}

export const DAMAGES: readonly Damage[] = [
  function flip(text, random) {
    const at = random(text.length);
    return text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << random(7))) + text.slice(at + 1);
  },
  function lose(text, random) {
    const at = random(text.length);
    return text.slice(0, at) + text.slice(at + 1 + random(random(2) === 0 ? 40 : 5000));
  },
  function repeat(text, random) {
    const at = random(text.length);
    const end = at + 1 + random(random(2) === 0 ? 40 : 5000);
    return text.slice(0, end) + text.slice(at);
  },
  function insert(text, random) {
    const at = random(text.length);
    return text.slice(0, at) + oneOf(SCRAPS, random) + text.slice(at);
  },
  function move(text, random) {
    const [a, b, c] = [random(text.length), random(text.length), random(text.length)].sort((x, y) => x - y);
    return text.slice(0, a) + text.slice(b, c) + text.slice(a, b) + text.slice(c);
  },
  function breakOffAndStartAgain(text, random) {
    return text.slice(0, random(text.length)) + text;
  },
  function unread(text, random) {
    const values = [...text.matchAll(VALUE)];
    const value = values[random(values.length)];
    if (value === undefined) return text;
    const at = value.index + 1;
    return text.slice(0, at) + oneOf(NO_VALUES, random) + text.slice(at + (value[1] ?? "").length);
  },
  function repeatElement(text, random) {
    const element = someElement(text, random);
    return element === null ? text : text.slice(0, element.to) + text.slice(element.from);
  },
  function swapElements(text, random) {
    const [a, b] = [someElement(text, random), someElement(text, random)];
    if (a === null || b === null) return text;
    const [first, second] = a.from < b.from ? [a, b] : [b, a];
    if (first.to > second.from) return text;
    return (
      text.slice(0, first.from) +
      text.slice(second.from, second.to) +
      text.slice(first.to, second.from) +
      text.slice(first.from, first.to) +
      text.slice(second.to)
    );
  },
  function loseElement(text, random) {
    const element = someElement(text, random);
    return element === null ? text : text.slice(0, element.from) + text.slice(element.to);
  },
  function repeatGpu(text, random) {
    const gpu = someGpu(text, random);
    return gpu === null ? text : text.slice(0, gpu.to) + text.slice(gpu.from);
  },
  function spliceGpu(text, random, other) {
    const [gpu, foreign] = [someGpu(text, random), someGpu(other, random)];
    if (gpu === null || foreign === null) return text;
    return text.slice(0, gpu.from) + other.slice(foreign.from, foreign.to) + text.slice(random(2) ? gpu.from : gpu.to);
  },
  function splice(text, random, other) {
    return text.slice(0, random(text.length)) + other.slice(random(other.length));
  },
  function deceive(text, random) {
    const at = random(2) === 0 ? text.indexOf(">", random(text.length)) + 1 : random(text.length);
    return text.slice(0, at) + oneOf(HOSTILE, random) + text.slice(at);
  },
  function deceiveByName(text, random) {
    const at = text.indexOf("<process_name>", random(text.length));
    const begin = at < 0 ? text.indexOf("<process_name>") : at;
    if (begin < 0) return text;
    const to = begin + "<process_name>".length;
    return text.slice(0, to) + oneOf(random(2) === 0 ? HOSTILE : SCRAPS, random) + text.slice(to);
  },
  function stretchAttribute(text, random) {
    return text.replace('<gpu id="', `<gpu id="${oneOf(["", ">", "'", "A".repeat(2_000), "<gpu>"], random)}`);
  },
];

/** Bytes that are no UTF-8: a lone continuation, an overlong form, a surrogate, a cut character, UTF-16. */
const NO_TEXT = [[0x80], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x9a], [0xff, 0xfe], [0xff], [0]] as const;

/** Damage below the level of characters. */
export function damageBytes(bytes: Buffer, random: Random): Buffer {
  const at = random(bytes.length);
  switch (random(3)) {
    case 0: {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] as number) ^ (1 << random(8));
      return flipped;
    }
    case 1:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(oneOf(NO_TEXT, random)), bytes.subarray(at)]);
    default:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
  }
}
