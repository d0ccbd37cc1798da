// Which tiles are fetched, in which order, and which are kept?
//
// 1. Each view says at every frame what it wants: visible tiles first, then those that it will want next.
// 2. Some requests are under way at once, visible ones first.  What is wanted no more is dropped from the queue, and cancelled if it is of
//    another family (tomogram, level, slab, smoothing), so that the server does not work for what nobody sees.  Slices of the same family
//    that are under way may finish: whoever scrolls fast would else see nothing.
// 3. Grey values of the last tiles are kept, and coloured when they are drawn.

import { getBytes } from "./api";
import { painted } from "./drawing";

export interface Wish {
  url: string;
  family: string;
  rows: number;
  columns: number;
}

interface Tile {
  grey: Uint8Array<ArrayBuffer>;
  rows: number;
  columns: number;
  canvas: HTMLCanvasElement | null;
  colours: Uint32Array | null;
}

const UNDER_WAY = 4;
const KEPT_BYTES = 192e6;
const KEPT_CANVASES = 64;

export class TileStore {
  private kept = new Map<string, Tile>();
  private bytes = 0;
  private canvases = 0;
  private underWay = new Map<string, { family: string; abort: AbortController }>();
  private failed = new Map<string, number>();
  private wishes = new Map<string, { visible: Wish[]; next: Wish[] }>();
  fetched = 0;

  constructor(
    private readonly onTile: () => void,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** What a view wants from now on. */
  want(view: string, visible: Wish[], next: Wish[]): void {
    this.wishes.set(view, { visible, next });
    const families = new Set<string>();
    for (const one of this.wishes.values()) for (const wish of [...one.visible, ...one.next]) families.add(wish.family);
    for (const [url, { family, abort }] of this.underWay) {
      if (!families.has(family)) {
        abort.abort();
        this.underWay.delete(url);
      }
    }
    this.pump();
  }

  has(url: string): boolean {
    return this.kept.has(url);
  }

  /** A tile in colours, ready to be drawn; null if it is not here yet. */
  picture(url: string, colours: Uint32Array): HTMLCanvasElement | null {
    const tile = this.kept.get(url);
    if (tile === undefined) return null;
    this.kept.delete(url);
    this.kept.set(url, tile); // the last used is the last dropped
    if (tile.canvas === null || tile.colours !== colours) {
      if (tile.canvas === null) {
        tile.canvas = document.createElement("canvas");
        tile.canvas.width = tile.columns;
        tile.canvas.height = tile.rows;
        this.canvases++;
        this.dropCanvases(tile);
      }
      const context = tile.canvas.getContext("2d")!;
      context.putImageData(painted(tile.grey, tile.rows, tile.columns, colours), 0, 0);
      tile.colours = colours;
    }
    return tile.canvas;
  }

  /** Forget everything: another tomogram, or a store that was made anew. */
  clear(): void {
    for (const { abort } of this.underWay.values()) abort.abort();
    this.underWay.clear();
    this.kept.clear();
    this.failed.clear();
    this.bytes = 0;
    this.canvases = 0;
  }

  private pump(): void {
    const all = [...this.wishes.values()];
    for (const wish of [...all.flatMap((one) => one.visible), ...all.flatMap((one) => one.next)]) {
      if (this.underWay.size >= UNDER_WAY) return;
      if (!this.kept.has(wish.url) && !this.underWay.has(wish.url) && (this.failed.get(wish.url) ?? 0) < Date.now()) void this.fetch(wish);
    }
  }

  private async fetch(wish: Wish): Promise<void> {
    const abort = new AbortController();
    const mine = { family: wish.family, abort };
    this.underWay.set(wish.url, mine);
    try {
      const bytes = await getBytes(wish.url, abort.signal);
      if (bytes.length !== wish.rows * wish.columns) throw new Error(`a tile has ${bytes.length} bytes instead of ${wish.rows * wish.columns}`);
      this.keep(wish, bytes as Uint8Array<ArrayBuffer>);
      this.fetched++;
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) {
        this.failed.set(wish.url, Date.now() + 3000);
        this.onError(error);
      }
    } finally {
      if (this.underWay.get(wish.url) === mine) this.underWay.delete(wish.url);
      this.onTile();
      this.pump();
    }
  }

  private keep(wish: Wish, grey: Uint8Array<ArrayBuffer>): void {
    this.kept.set(wish.url, { grey, rows: wish.rows, columns: wish.columns, canvas: null, colours: null });
    this.bytes += grey.length;
    for (const [url, tile] of this.kept) {
      if (this.bytes <= KEPT_BYTES) break;
      this.kept.delete(url);
      this.bytes -= tile.grey.length;
      if (tile.canvas !== null) this.canvases--;
    }
  }

  private dropCanvases(fresh: Tile): void {
    for (const tile of this.kept.values()) {
      if (this.canvases <= KEPT_CANVASES) return;
      if (tile.canvas !== null && tile !== fresh) {
        tile.canvas = null;
        this.canvases--;
      }
    }
  }
}
