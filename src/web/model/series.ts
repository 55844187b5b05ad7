/** The latest values of a figure, as a line of a small picture. */

export const SERIES_LENGTH = 90;

/** The series with one more value, the oldest dropped. */
export function appended(series: readonly (number | null)[], value: number | null): (number | null)[] {
  return [...series.slice(1 - SERIES_LENGTH), value];
}

/** An SVG path through values of 0 to 100 in a box; missing readings are gaps. The newest value is at the right. */
export function pathOf(series: readonly (number | null)[], width: number, height: number): string {
  const step = width / (SERIES_LENGTH - 1);
  const start = SERIES_LENGTH - series.length;
  let path = "";
  let isDown = false;
  for (const [i, value] of series.entries()) {
    if (value === null) {
      isDown = false;
      continue;
    }
    const x = ((start + i) * step).toFixed(1);
    const y = (height - (Math.min(100, Math.max(0, value)) / 100) * height).toFixed(1);
    path += `${isDown ? "L" : "M"}${x} ${y}`;
    isDown = true;
  }
  return path;
}
