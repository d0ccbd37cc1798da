// Colours that people with any colour vision tell apart: viridis for scores, Okabe and Ito's palette for species.

// viridis (Smith and van der Walt 2015), every 1/9; cividis has grey in its middle, which vanishes on a grey slice
const VIRIDIS: [number, number, number][] = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];

// those first that no score has: a click must not look like a pick
export const SPECIES = ["#56b4e9", "#cc79a7", "#e69f00", "#ffffff", "#d55e00", "#f0e442", "#009e73", "#0072b2"];
export const NOT_A_PARTICLE = "#ff8a65";

/** The colour of a share 0..1. */
export function viridis(share: number): [number, number, number] {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const a = VIRIDIS[i]!;
  const b = VIRIDIS[i + 1]!;
  const t = at - i;
  return [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];
}

/** The colour of a pick: the dark third of the map would vanish on a grey slice. */
export function scoreColour(share: number): string {
  const [r, g, b] = viridis(0.35 + 0.65 * share);
  return `rgb(${r | 0},${g | 0},${b | 0})`;
}

export function speciesColour(index: number): string {
  return SPECIES[Math.max(0, index) % SPECIES.length]!;
}

const SPREAD = 6; // standard deviations from the middle to the ends of the grey scale, as the server has it

/** Colours of the 256 grey values for a contrast window in standard deviations; 0 (nothing known) is a dark blue. */
export function greyTable(low: number, high: number, inverted: boolean): Uint32Array {
  const table = new Uint32Array(256);
  table[0] = 0xff241a14;
  for (let g = 1; g < 256; g++) {
    const sigma = ((g - 128) / 127) * SPREAD;
    const share = Math.min(Math.max((sigma - low) / Math.max(high - low, 1e-6), 0), 1);
    const v = Math.round((inverted ? 1 - share : share) * 255);
    table[g] = (255 << 24) | (v << 16) | (v << 8) | v;
  }
  return table;
}

/** Colours of the 256 values of a score map: the surer, the more opaque. */
export function scoreTable(): Uint32Array {
  const table = new Uint32Array(256);
  for (let g = 1; g < 256; g++) {
    const p = (g - 1) / 254;
    const [r, gr, b] = viridis(p);
    const alpha = Math.round(255 * Math.min(1, Math.max(0, (p - 0.08) / 0.5)));
    table[g] = ((alpha << 24) | (Math.round(b) << 16) | (Math.round(gr) << 8) | Math.round(r)) >>> 0;
  }
  return table;
}
