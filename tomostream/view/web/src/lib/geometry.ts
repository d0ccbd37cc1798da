// Where is a voxel on the screen?  Level-0 voxel i has its centre at i; the screen shows `zoom` pixels a voxel around a centre.

import type { Axis } from "./api";

export type Point = { z: number; y: number; x: number };

/** Rows and columns of a picture that is cut across an axis: x-y, beside it z-y, below it x-z. */
export const ROWS_COLUMNS: Record<Axis, [Axis, Axis]> = { z: ["y", "x"], y: ["z", "x"], x: ["y", "z"] };
export const INDEX: Record<Axis, 0 | 1 | 2> = { z: 0, y: 1, x: 2 };
export const TILE = 512;

/** The level whose voxels are at least a pixel and less than two. */
export function levelFor(zoom: number, levels: number): number {
  return Math.min(Math.max(Math.floor(-Math.log2(zoom) + 1e-9), 0), levels - 1);
}

/** First and last + 1 plane of a level for a slab of `thick` level-0 voxels around plane `at`. */
export function planesFor(at: number, thick: number, level: number, size: number): [number, number] {
  const scale = 2 ** level;
  const first = Math.max(0, at - Math.floor((thick - 1) / 2));
  const last = at + Math.floor(thick / 2);
  const start = Math.min(Math.floor(first / scale), size - 1);
  const stop = Math.max(start + 1, Math.min(size, Math.floor(last / scale) + 1));
  return [start, Math.min(stop, start + 256)];
}

export interface TilePlace {
  r0: number;
  r1: number;
  c0: number;
  c1: number;
}

/** The tiles of a level that a rectangle of level-0 voxels touches; those nearest its middle first. */
export function tilesIn(
  level: number, rows: number, columns: number, top: number, bottom: number, left: number, right: number,
): TilePlace[] {
  const scale = 2 ** level;
  const span = (low: number, high: number, size: number): [number, number] => [
    Math.max(0, Math.floor((low + 0.5) / scale / TILE)),
    Math.min(Math.ceil(size / TILE) - 1, Math.floor((high + 0.5) / scale / TILE)),
  ];
  const [ra, rb] = span(top, bottom, rows);
  const [ca, cb] = span(left, right, columns);
  const found: TilePlace[] = [];
  for (let r = ra; r <= rb; r++) {
    for (let c = ca; c <= cb; c++) {
      found.push({ r0: r * TILE, r1: Math.min(rows, (r + 1) * TILE), c0: c * TILE, c1: Math.min(columns, (c + 1) * TILE) });
    }
  }
  const my = (top + bottom) / 2 / scale;
  const mx = (left + right) / 2 / scale;
  const off = (t: TilePlace) => Math.abs((t.r0 + t.r1) / 2 - my) + Math.abs((t.c0 + t.c1) / 2 - mx);
  return found.sort((a, b) => off(a) - off(b));
}

/** The radius of a ball's circle in a plane at some distance from its centre; 0 if it does not reach it. */
export function circleRadius(radius: number, distance: number): number {
  return Math.abs(distance) < radius ? Math.sqrt(radius * radius - distance * distance) : 0;
}

/** A length as the configuration writes it (`135A`, `10vox`), in voxels. */
export function inVoxels(length: string, spacing: number): number {
  const value = Number.parseFloat(length);
  return length.trim().endsWith("A") ? value / spacing : value;
}
