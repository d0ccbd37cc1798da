// Every key of the page, in one table: what it does, and what the help says.

import { TABS, bench } from "./workbench.svelte";
import type { Point } from "./geometry";

export interface Key {
  keys: string;
  what: string;
}

export const HELP: { title: string; keys: Key[] }[] = [
  {
    title: "Look",
    keys: [
      { keys: "Wheel, PageUp PageDown, . ,", what: "next, previous slice (Shift: ten)" },
      { keys: "Home End", what: "first, last slice" },
      { keys: "Ctrl+Wheel, + -", what: "zoom" },
      { keys: "Drag", what: "pan" },
      { keys: "F", what: "fit the slice into the window" },
      { keys: "Arrows", what: "move the cross by a voxel (Shift: ten)" },
      { keys: "Shift+Click", what: "put the cross there, without a click" },
      { keys: "[ ]", what: "thinner, thicker slab" },
      { keys: "; '", what: "less, more smoothing" },
      { keys: "C Shift+C", what: "more, less contrast" },
      { keys: "I", what: "bright particles, dark particles" },
      { keys: "T Shift+T", what: "next, previous tomogram" },
    ],
  },
  {
    title: "Click",
    keys: [
      { keys: "Click, Space", what: "a particle there; on a click: remove it" },
      { keys: "X", what: "not a particle, there" },
      { keys: "M", what: "what a click means: particle, or not a particle" },
      { keys: "Drag a click", what: "move it, in any of the three cuts" },
      { keys: "Alt+Arrows, Alt+PageUp", what: "move the selected click by a voxel" },
      { keys: "Delete", what: "remove the selected click" },
      { keys: "N P", what: "next, previous click" },
      { keys: "1 to 9", what: "species" },
      { keys: "Ctrl+Z Ctrl+Y", what: "undo, redo" },
    ],
  },
  {
    title: "Picks and gallery",
    keys: [
      { keys: "V", what: "show or hide picks" },
      { keys: "L", what: "show or hide clicks" },
      { keys: "O", what: "score map: off, half, full" },
      { keys: "Shift+< Shift+>", what: "fewer, more picks" },
      { keys: "K R U", what: "gallery: keep, reject, unsure" },
      { keys: "J H", what: "gallery: next, previous" },
      { keys: "Alt+1 to 4", what: "the tabs on the right" },
      { keys: "?", what: "this page" },
      { keys: "Esc", what: "close, or back to the slice" },
    ],
  },
];

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

function acted(event: KeyboardEvent): boolean {
  const isOnButton = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  if (event.ctrlKey || event.metaKey) return withControl(event);
  if (event.altKey) return withAlt(event);
  if (bench.tab === "gallery" && inGallery(event)) return true;
  if (isOnButton && (event.key === " " || event.key === "Enter")) return false;
  const far = event.shiftKey ? 10 : 1;
  const look = bench.look;
  switch (event.key) {
    case "PageUp": case ".": bench.step("z", far); return true;
    case "PageDown": case ",": bench.step("z", -far); return true;
    case "Home": bench.step("z", -bench.shape[0]); return true;
    case "End": bench.step("z", bench.shape[0]); return true;
    case "ArrowLeft": bench.step("x", -far); return true;
    case "ArrowRight": bench.step("x", far); return true;
    case "ArrowUp": bench.step("y", -far); return true;
    case "ArrowDown": bench.step("y", far); return true;
    case "+": case "=": zoomBy(1.25); return true;
    case "-": zoomBy(1 / 1.25); return true;
    case "[": look.slab = Math.max(1, look.slab - 1); return true;
    case "]": look.slab = Math.min(99, look.slab + 1); return true;
    case ";": look.sigma = Math.max(0, look.sigma - 0.5); return true;
    case "'": look.sigma = Math.min(8, look.sigma + 0.5); return true;
    case "<": bench.setCount(bench.count - Math.max(1, Math.round(bench.count / 20))); return true;
    case ">": bench.setCount(bench.count + Math.max(1, Math.round(bench.count / 20))); return true;
    case " ": case "Enter": bench.toggle(place()); return true;
    case "Delete": case "Backspace": if (bench.selected !== null) bench.remove(bench.selected); return true;
    case "?": bench.isHelpOpen = true; return true;
  }
  switch (event.key.toLowerCase()) {
    case "f": bench.fit?.(); return true;
    case "x": bench.toggle(place(), 0); return true;
    case "m": bench.negative = !bench.negative; return true;
    case "i": look.inverted = !look.inverted; return true;
    case "c": contrast(event.shiftKey ? 1.15 : 1 / 1.15); return true;
    case "v": look.showPicks = !look.showPicks; return true;
    case "l": look.showClicks = !look.showClicks; return true;
    case "o": look.overlay = look.overlay === 0 ? 0.5 : look.overlay < 0.75 ? 1 : 0; return true;
    case "n": bench.nextClick(1); return true;
    case "p": bench.nextClick(-1); return true;
    case "t": nextTomogram(event.shiftKey ? -1 : 1); return true;
  }
  if (/^[1-9]$/.test(event.key)) {
    const found = bench.speciesList[Number(event.key) - 1];
    if (found !== undefined) bench.speciesName = found.name;
    return found !== undefined;
  }
  return false;
}

function withControl(event: KeyboardEvent): boolean {
  const key = event.key.toLowerCase();
  if (key === "z" && !event.shiftKey) bench.undo();
  else if (key === "y" || (key === "z" && event.shiftKey)) bench.redo();
  else return false;
  return true;
}

function withAlt(event: KeyboardEvent): boolean {
  if (/^[1-4]$/.test(event.key)) {
    bench.tab = TABS[Number(event.key) - 1]!;
    return true;
  }
  const moves: Record<string, [keyof Point, number]> = {
    ArrowLeft: ["x", -1], ArrowRight: ["x", 1], ArrowUp: ["y", -1], ArrowDown: ["y", 1], PageUp: ["z", 1], PageDown: ["z", -1],
  };
  const move = moves[event.key];
  if (move === undefined || bench.selected === null) return false;
  const point = bench.toVoxels(bench.selected);
  point[move[0]] += move[1] * (event.shiftKey ? 10 : 1);
  bench.move(bench.selected, bench.clamped(point));
  bench.at = bench.clamped(point);
  return true;
}

function inGallery(event: KeyboardEvent): boolean {
  if (gallery.judge === null || gallery.step === null) return false;
  switch (event.key.toLowerCase()) {
    case "k": gallery.judge(1); return true;
    case "r": gallery.judge(0); return true;
    case "u": gallery.judge(null); return true;
    case "j": gallery.step(1); return true;
    case "h": gallery.step(-1); return true;
  }
  return false;
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
