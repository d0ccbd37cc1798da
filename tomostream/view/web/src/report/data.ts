// What `tomostream report` has put into the page, and how it is read.

import type { Curve, Expected } from "../lib/scores";

export interface PackedCurve {
  tp: string; // by how much each pick raises the number of true particles that are found
  fp: string; // and the number of false picks
  truths: number;
}

export interface ReportTomogram {
  name: string;
  failure: string | null; // stage and reason
  problem: string | null; // why there are no pictures
  picks: Record<string, { scores: string; curve: PackedCurve | null; expected: Expected | null }> | null;
  shape: [number, number, number] | null;
  spacing: number | null;
}

export interface Report {
  title: string;
  version: string;
  species: { name: string; radius: string }[];
  tolerance: string | null;
  matching: string;
  tomograms: ReportTomogram[];
  training: { sentences: string[]; curves: Record<string, number[]> };
  timings: [string, number][];
  runs: number;
  failures: [string, string][];
  settings: string;
  files: { what: string; path: string; link: string }[];
}

export interface Slab {
  z: number[]; // of each slice, level-0 voxels
  thick: number;
  rows: number;
  columns: number;
  slices: string[];
}

export interface GallerySheet {
  edge: number; // pixels of one picture
  radius: number; // of the particle, a share of the edge
  shrink: number;
  sheet: string;
  ranks: number[]; // from 0
}

export interface SpeciesBlock {
  radius: number; // level-0 voxels
  xyz: string;
  gallery: GallerySheet | null;
  truth: { true: string; xyz: string; at: string } | null;
}

export interface Block {
  slab: Slab;
  species: Record<string, SpeciesBlock>;
}

/** Loops, here and below: `from` with a function takes ten times as long, and a report may hold a million picks. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}
export const floats = (text: string): Float32Array => new Float32Array(bytesOf(text).buffer);

export interface Positions {
  x: Float64Array;
  y: Float64Array;
  z: Float64Array;
}

/** Positions in level-0 voxels. */
export function positionsOf(text: string, shape: [number, number, number]): Positions {
  const shares = new Uint16Array(bytesOf(text).buffer);
  const axis = (offset: number, size: number): Float64Array => {
    const places = new Float64Array(shares.length / 3);
    for (let i = 0; i < places.length; i++) places[i] = (shares[3 * i + offset]! / 65535) * size - 0.5;
    return places;
  };
  return { x: axis(0, shape[2]), y: axis(1, shape[1]), z: axis(2, shape[0]) };
}

/** Counts at each pick, whose scores fall. */
export function curveOf(packed: PackedCurve, scores: Float32Array): Curve {
  const risen = (text: string): Uint32Array => {
    const bytes = bytesOf(text);
    const steps = bytes.length === scores.length ? bytes : new Uint32Array(bytes.buffer);
    const sums = new Uint32Array(steps.length);
    let sum = 0;
    for (let i = 0; i < steps.length; i++) sums[i] = sum += steps[i]!;
    return sums;
  };
  return { threshold: scores, tp: risen(packed.tp), fp: risen(packed.fp), truths: packed.truths };
}

/** The grey values of a WebP, row by row. */
export async function greyOf(text: string): Promise<{ grey: Uint8Array; rows: number; columns: number }> {
  const picture = await createImageBitmap(new Blob([bytesOf(text)], { type: "image/webp" }));
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  const grey = new Uint8Array(picture.width * picture.height);
  for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i]!;
  return { grey, rows: picture.height, columns: picture.width };
}

function embedded(id: string): unknown {
  const element = document.getElementById(id);
  return element === null ? null : JSON.parse(element.textContent ?? "null");
}

export const report = embedded("report") as Report;

const blocks = new Map<number, Block | null>();

/** What belongs to one tomogram; read when it is first looked at. */
export function blockOf(index: number): Block | null {
  const known = blocks.get(index);
  if (known !== undefined) return known;
  const read = embedded(`tomogram-${index}`) as Block | null;
  blocks.set(index, read);
  return read;
}
