// Undo and redo: each action is a patch of rows that went and rows that came; its undoing is the same the other way round.

import type { Click } from "./api";

export interface Patch {
  remove: Click[];
  add: Click[];
  table: "clicks" | "unsure";
}

export const reversed = (patch: Patch): Patch => ({ remove: patch.add, add: patch.remove, table: patch.table });

export const sameClick = (a: Click, b: Click): boolean =>
  a.tomogram === b.tomogram && a.species === b.species && a.x === b.x && a.y === b.y && a.z === b.z && a.label === b.label;

export class History {
  private done: Patch[][] = [];
  private undone: Patch[][] = [];

  get canUndo(): boolean {
    return this.done.length > 0;
  }

  get canRedo(): boolean {
    return this.undone.length > 0;
  }

  note(patches: Patch[]): void {
    this.done.push(patches);
    this.undone = [];
  }

  undo(): Patch[] {
    const patches = this.done.pop();
    if (patches === undefined) return [];
    this.undone.push(patches);
    return patches.map(reversed).reverse();
  }

  redo(): Patch[] {
    const patches = this.undone.pop();
    if (patches === undefined) return [];
    this.done.push(patches);
    return patches;
  }
}
