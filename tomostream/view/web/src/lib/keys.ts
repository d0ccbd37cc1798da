// Every key of the page: what the help says, and what it does.

import { TABS, bench } from "./workbench.svelte";
import type { Point } from "./geometry";

/** What the help says: by title, keys and what they do. */
export const HELP: Record<string, Record<string, string>> = {
  Look: {
    "Wheel, PageUp PageDown, . ,": "next, previous slice (Shift: ten)",
    "Home End": "first, last slice",
    "Ctrl+Wheel, + -": "zoom",
    Drag: "pan",
    F: "fit the slice into the window",
    Arrows: "move the cross by a voxel (Shift: ten)",
    "Shift+Click": "put the cross there, without a click",
    "[ ]": "thinner, thicker slab",
    "; '": "less, more smoothing",
    "C Shift+C": "more, less contrast",
    I: "bright particles, dark particles",
    "T Shift+T": "next, previous tomogram",
  },
  Click: {
    "Click, Space": "a particle there; on a click: remove it",
    X: "not a particle, there",
    M: "what a click means: particle, or not a particle",
    "Drag a click": "move it, in any of the three cuts",
    "Alt+Arrows, Alt+PageUp": "move the selected click by a voxel",
    Delete: "remove the selected click",
    "N P": "next, previous click",
    "1 to 9": "species",
    "Ctrl+Z Ctrl+Y": "undo, redo",
  },
  "Picks and gallery": {
    V: "show or hide picks",
    L: "show or hide clicks",
    O: "score map: off, half, full",
    "Shift+< Shift+>": "fewer, more picks",
    "K R U": "gallery: keep, reject, unsure",
    "J H": "gallery: next, previous",
    "Alt+1 to 4": "the tabs on the right",
    "?": "this page",
    Esc: "close, or back to the slice",
  },
};

/** Where a key acts: under the pointer, or at the cross. */
const place = (): Point => bench.pointer ?? bench.at;

export const gallery: { judge: ((verdict: 0 | 1 | null) => void) | null; step: ((by: number) => void) | null } = { judge: null, step: null };

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return target.type !== "checkbox";
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}

export function keydown(event: KeyboardEvent): void {
  if (event.key === "Escape") {
    if (bench.isHelpOpen) bench.isHelpOpen = false;
    else (document.querySelector('canvas[data-axis="z"]') as HTMLElement | null)?.focus();
    return;
  }
  if (isTyping(event.target) || bench.isHelpOpen) return;
  if (acted(event)) event.preventDefault();
}

/** A share of the picks that are shown, for a step of the slider. */
const someOf = (count: number): number => Math.max(1, Math.round(count / 20));
const within = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));

/** What a key does; `far` is ten with Shift, else one, and `back` is -1 with Shift. */
type Act = (by: { far: number; back: number }) => void;

// by key, letters small; what Shift changes is in `by`
const KEYS: Record<string, Act> = {
  PageUp: ({ far }) => bench.step("z", far),
  PageDown: ({ far }) => bench.step("z", -far),
  Home: () => bench.step("z", -bench.shape[0]),
  End: () => bench.step("z", bench.shape[0]),
  ArrowLeft: ({ far }) => bench.step("x", -far),
  ArrowRight: ({ far }) => bench.step("x", far),
  ArrowUp: ({ far }) => bench.step("y", -far),
  ArrowDown: ({ far }) => bench.step("y", far),
  "+": () => zoomBy(1.25),
  "-": () => zoomBy(1 / 1.25),
  "[": () => (bench.look.slab = within(bench.look.slab - 1, 1, 99)),
  "]": () => (bench.look.slab = within(bench.look.slab + 1, 1, 99)),
  ";": () => (bench.look.sigma = within(bench.look.sigma - 0.5, 0, 8)),
  "'": () => (bench.look.sigma = within(bench.look.sigma + 0.5, 0, 8)),
  "<": () => bench.setCount(bench.count - someOf(bench.count)),
  ">": () => bench.setCount(bench.count + someOf(bench.count)),
  " ": () => bench.toggle(place()),
  Delete: () => bench.selected !== null && bench.remove(bench.selected),
  "?": () => (bench.isHelpOpen = true),
  f: () => bench.fit?.(),
  x: () => bench.toggle(place(), 0),
  m: () => (bench.negative = !bench.negative),
  i: () => (bench.look.inverted = !bench.look.inverted),
  c: ({ back }) => contrast(1.15 ** -back),
  v: () => (bench.look.showPicks = !bench.look.showPicks),
  l: () => (bench.look.showClicks = !bench.look.showClicks),
  o: () => (bench.look.overlay = bench.look.overlay === 0 ? 0.5 : bench.look.overlay < 0.75 ? 1 : 0),
  n: () => bench.nextClick(1),
  p: () => bench.nextClick(-1),
  t: ({ back }) => nextTomogram(back),
};
const SAME: Record<string, string> = { ".": "PageUp", ",": "PageDown", "=": "+", Enter: " ", Backspace: "Delete" };

const GALLERY: Record<string, () => void> = {
  k: () => gallery.judge?.(1),
  r: () => gallery.judge?.(0),
  u: () => gallery.judge?.(null),
  j: () => gallery.step?.(1),
  h: () => gallery.step?.(-1),
};

function acted(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey) return withControl(event);
  if (event.altKey) return withAlt(event);
  const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isGallery = bench.tab === "gallery" && gallery.judge !== null && gallery.step !== null;
  if (isGallery && letter in GALLERY) {
    GALLERY[letter]!();
    return true;
  }
  const isOnButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  if (isOnButton && (event.key === " " || event.key === "Enter")) return false;
  const act = KEYS[SAME[letter] ?? letter];
  if (act !== undefined) {
    act({ far: event.shiftKey ? 10 : 1, back: event.shiftKey ? -1 : 1 });
    return true;
  }
  const species = /^[1-9]$/.test(event.key) ? bench.speciesList[Number(event.key) - 1] : undefined;
  if (species !== undefined) bench.speciesName = species.name;
  return species !== undefined;
}

function withControl(event: KeyboardEvent): boolean {
  const key = event.key.toLowerCase();
  if (key === "z" && !event.shiftKey) bench.undo();
  else if (key === "y" || (key === "z" && event.shiftKey)) bench.redo();
  else return false;
  return true;
}

const MOVES: Record<string, [keyof Point, number]> = {
  ArrowLeft: ["x", -1], ArrowRight: ["x", 1], ArrowUp: ["y", -1], ArrowDown: ["y", 1], PageUp: ["z", 1], PageDown: ["z", -1],
};

function withAlt(event: KeyboardEvent): boolean {
  if (/^[1-4]$/.test(event.key)) {
    bench.tab = TABS[Number(event.key) - 1]!;
    return true;
  }
  const move = MOVES[event.key];
  if (move === undefined || bench.selected === null) return false;
  const point = bench.toVoxels(bench.selected);
  point[move[0]] += move[1] * (event.shiftKey ? 10 : 1);
  bench.move(bench.selected, bench.clamped(point));
  bench.at = bench.clamped(point);
  return true;
}

/** Nearer or farther; the cross stays where it is on the screen. */
function zoomBy(factor: number): void {
  const zoom = Math.min(40, Math.max(0.005, bench.zoom * factor));
  const share = bench.zoom / zoom;
  const { at, centre } = bench;
  bench.isFitted = false;
  bench.zoom = zoom;
  bench.centre = { z: centre.z, y: at.y + (centre.y - at.y) * share, x: at.x + (centre.x - at.x) * share };
}

function contrast(by: number): void {
  const middle = (bench.look.low + bench.look.high) / 2;
  const half = Math.min(6, Math.max(0.3, ((bench.look.high - bench.look.low) / 2) * by));
  bench.look.low = middle - half;
  bench.look.high = middle + half;
}

function nextTomogram(by: number): void {
  const names = bench.state?.tomograms.map((one) => one.name) ?? [];
  const next = names[(names.indexOf(bench.name) + by + names.length) % names.length];
  if (next !== undefined) void bench.open(next);
}
