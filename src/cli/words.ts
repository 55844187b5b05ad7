/** Figures as people read them. */

/** `45s`, `12m`, `3h05`, `2d4h`: at most five characters for what lasts less than 100 days. */
export function spanText(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1_000));
  if (s < 100) return `${s}s`;
  const m = Math.round(s / 60);
  if (m < 100) return `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h}h${String(m % 60).padStart(2, "0")}`;
  return `${Math.floor(h / 24)}d${h % 24}h`;
}

export function sinceText(at: string | null | undefined, now: number): string | null {
  return at === null || at === undefined ? null : spanText(now - Date.parse(at));
}

export function leftText(at: string | null | undefined, now: number): string | null {
  return at === null || at === undefined ? null : spanText(Date.parse(at) - now);
}

/** `about 12 to 25 min`. */
export function etaText(
  eta: { readonly earliest: string; readonly latest: string } | null | undefined,
  now: number,
): string | null {
  if (eta === null || eta === undefined) return null;
  const [from, to] = [Date.parse(eta.earliest) - now, Date.parse(eta.latest) - now].map((ms) => Math.max(0, ms)) as [
    number,
    number,
  ];
  const unit = to < 90_000 ? 1_000 : to < 5_400_000 ? 60_000 : 3_600_000;
  const name = unit === 1_000 ? "s" : unit === 60_000 ? "min" : "h";
  const inUnits = (ms: number) =>
    unit === 3_600_000 ? (ms / unit).toFixed(1).replace(/\.0$/, "") : String(Math.round(ms / unit));
  const [a, b] = [inUnits(from), inUnits(to)];
  return a === b ? `about ${b} ${name}` : `about ${a} to ${b} ${name}`;
}

export function gibText(mib: number | null | undefined): string {
  if (mib === null || mib === undefined) return "?";
  return mib < 1_024 ? `${Math.round(mib)}M` : `${(mib / 1_024).toFixed(mib < 10_240 ? 1 : 0)}G`;
}

/** The model without the maker that all of them have. */
export function modelText(name: string): string {
  return name.replace(/^NVIDIA\s+/i, "");
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
