// The state of the page: what is open, where one looks, what was clicked, what runs.  Parts of the page read it and call its actions.

import * as api from "./api";
import type { Click, Facts, Job, PickList, Place, Species, State, TomogramState } from "./api";
import { History, sameClick, type Patch } from "./history";
import { inVoxels, type Point } from "./geometry";
import { counted } from "./words";

export type Tab = "clicks" | "picks" | "gallery" | "run";
export const TABS: Tab[] = ["clicks", "picks", "gallery", "run"];

export interface Notice {
  id: number;
  kind: "info" | "warning" | "error";
  text: string;
}

export interface Look {
  slab: number; // level-0 voxels
  sigma: number; // of the smoothing, level-0 voxels
  low: number; // contrast, standard deviations
  high: number;
  inverted: boolean;
  showPicks: boolean;
  showClicks: boolean;
  overlay: number; // opacity of the score map
}

interface Position {
  at: Point;
  centre: Point;
  zoom: number;
  isFitted?: boolean; // the whole slice was shown: shown whole again, in a window of any size
}

interface Unsent {
  table: string | undefined;
  patches: Patch[];
}

const UNSENT = "tomostream.unsent.";

const LOOK: Look = { slab: 5, sigma: 1, low: -3, high: 3, inverted: false, showPicks: true, showClicks: true, overlay: 0 };
const DEFAULT_RADIUS_VOX = 10;
const SLOW_POLL_MS = 2500;
const FAST_POLL_MS = 1000;

export class Workbench {
  state = $state.raw<State | null>(null);
  facts = $state.raw<Facts | null>(null);
  name = $state<string>("");
  at = $state<Point>({ z: 0, y: 0, x: 0 }); // the cross, level-0 voxels
  zoom = $state(1); // screen pixels a level-0 voxel
  centre = $state<Point>({ z: 0, y: 0, x: 0 });
  look = $state<Look>({ ...LOOK });
  tab = $state<Tab>("clicks");
  speciesName = $state("");
  negative = $state(false); // what the next click means
  pointer = $state.raw<Point | null>(null); // the voxel under the pointer
  picks = $state.raw<PickList | null>(null);
  count = $state(0); // picks that are shown, the best
  suggested = $state.raw<Place[]>([]);
  drafts = $state.raw<number[]>([]); // radii (angstrom) that are being typed, by species; 0: none
  selected = $state.raw<Click | null>(null);
  notices = $state<Notice[]>([]);
  isHelpOpen = $state(false);
  isGone = $state<string | null>(null); // why the server can't be used any more
  version = $state(0); // of the score maps: grows when a run ends
  canUndo = $state(false);
  canRedo = $state(false);
  isSaved = $state(true);

  private saved = $state.raw<Click[]>([]);
  private savedUnsure = $state.raw<Click[]>([]);
  private pending = $state.raw<Patch[]>([]);
  private readonly unsentKey = UNSENT + crypto.randomUUID();
  private history = new History();
  private revision = -1;
  private isSending = false;
  private nextNotice = 1;
  private jobStates = new Map<string, string>();
  private hasAutoConverted = false;
  private positions = new Map<string, Position>();
  isFitted = false; // the whole slice is shown, and stays so when the window changes
  window = { width: 1, height: 1 }; // of the main view, pixels
  fit: (() => void) | null = null; // the main view tells how large it is

  // ---- derived -------------------------------------------------------------------------------------------------------------------

  clicks = $derived(applied(this.saved, this.pending, "clicks"));
  unsure = $derived(applied(this.savedUnsure, this.pending, "unsure"));
  here = $derived(this.clicks.filter((click) => click.tomogram === this.name));
  speciesList = $derived<Species[]>(this.state === null || this.state.species.length === 0 ? [] : this.state.species);
  species = $derived<Species | null>(this.speciesList.find((one) => one.name === this.speciesName) ?? this.speciesList[0] ?? null);
  kind = $derived(this.species?.name ?? "particle"); // the name that a click gets
  spacing = $derived(this.facts?.spacing ?? 1);
  radius = $derived(this.radiusOf(this.kind)); // voxels
  shape = $derived<[number, number, number]>(this.facts?.levels[0]?.shape ?? [1, 1, 1]);
  tomogram = $derived<TomogramState | null>(this.state?.tomograms.find((one) => one.name === this.name) ?? null);

  /** Why nothing can be changed; null if it can. */
  onlyLooking = $derived(this.state?.only_looking ?? null);

  job(kind: string): Job | null {
    return this.state?.jobs.find((job) => job.kind === kind) ?? null;
  }

  radiusOf(species: string): number {
    const index = this.speciesIndex(species);
    const typed = this.drafts[index] ?? 0;
    const known = this.speciesList[index];
    return typed > 0 ? typed / this.spacing : known === undefined ? DEFAULT_RADIUS_VOX : inVoxels(known.radius, this.spacing);
  }

  speciesIndex(name: string): number {
    const index = this.speciesList.findIndex((one) => one.name === name);
    return index < 0 ? 0 : index;
  }

  toVoxels(place: { x: number; y: number; z: number }): Point {
    return { z: place.z / this.spacing, y: place.y / this.spacing, x: place.x / this.spacing };
  }

  /** To a hundredth: a pointer is no finer. */
  toAngstrom(point: Point): Point {
    const round = (value: number): number => Math.round(value * this.spacing * 100) / 100;
    return { z: round(point.z), y: round(point.y), x: round(point.x) };
  }

  // ---- loading -------------------------------------------------------------------------------------------------------------------

  async begin(): Promise<void> {
    this.restoreLook();
    await this.refresh();
    this.adoptUnsent();
    const wanted = localStorage.getItem("tomostream.name");
    const ready = this.state?.tomograms ?? [];
    const first = ready.find((one) => one.name === wanted) ?? ready.find((one) => one.state === "ready") ?? ready[0];
    if (first !== undefined) await this.open(first.name);
    const poll = async (): Promise<void> => {
      if (this.isGone === null || this.isGone.startsWith("The server does not answer")) await this.refresh();
      const isBusy = this.state?.jobs.some((job) => job.state === "running") ?? false;
      setTimeout(() => void poll(), isBusy ? FAST_POLL_MS : SLOW_POLL_MS);
    };
    setTimeout(() => void poll(), FAST_POLL_MS);
  }

  async refresh(): Promise<void> {
    try {
      this.adopt(await api.get<State>("api/state"));
      this.hear(await api.get<api.ClickAnswer>("api/clicks"));
      this.isGone = null;
      void this.send();
    } catch (error) {
      this.failed(error);
    }
  }

  adopt(state: State): void {
    this.state = state;
    for (const job of state.jobs) {
      const before = this.jobStates.get(job.kind);
      this.jobStates.set(job.kind, job.state);
      if (before === "running" && job.state !== "running") void this.jobEnded(job);
    }
    if (!this.hasAutoConverted && state.tomograms.some((one) => one.state === "unconverted") && !state.jobs.some((job) => job.kind === "convert")) {
      this.hasAutoConverted = true;
      void this.start({ kind: "convert" });
    }
    const mine = state.tomograms.find((one) => one.name === this.name);
    if (mine?.state === "ready" && this.facts === null) void this.open(mine.name);
    if (mine?.state === "missing" && this.facts !== null) {
      // what is still on the screen would look as if it were there; it opens again by itself when it is back
      this.keepPosition();
      this.facts = null;
      this.selected = null;
    }
  }

  async open(name: string): Promise<void> {
    if (this.facts?.name !== name) this.keepPosition();
    const isOther = this.name !== name;
    this.name = name;
    localStorage.setItem("tomostream.name", name);
    if (isOther) {
      this.facts = null;
      this.picks = null;
      this.selected = null;
    }
    if (this.state?.tomograms.find((one) => one.name === name)?.state !== "ready") return;
    try {
      const facts = await api.get<Facts>("api/tomogram", { name });
      if (this.name !== name) return;
      this.facts = facts;
      const [z, y, x] = facts.levels[0]!.shape;
      const kept = this.positions.get(name) ?? readJson<Position>(`tomostream.at.${name}`);
      const isWithin = kept !== null && kept.at.z < z && kept.at.y < y && kept.at.x < x;
      if (isWithin) {
        this.isFitted = kept.isFitted === true;
        this.at = { ...kept.at };
        this.centre = { ...kept.centre };
        this.zoom = kept.zoom;
        if (this.isFitted) this.fit?.();
      } else {
        this.at = { z: z >> 1, y: y >> 1, x: x >> 1 };
        this.centre = { z: (z - 1) / 2, y: (y - 1) / 2, x: (x - 1) / 2 };
        this.fit?.();
      }
      for (const warning of facts.warnings) this.tell("warning", `${name}: ${warning}`);
      await this.loadPicks();
    } catch (error) {
      this.failed(error);
    }
  }

  private get position(): Position {
    return { at: { ...this.at }, centre: { ...this.centre }, zoom: this.zoom, isFitted: this.isFitted };
  }

  private keepPosition(): void {
    if (this.facts !== null) this.positions.set(this.facts.name, this.position);
  }

  async loadPicks(): Promise<void> {
    const name = this.name;
    try {
      const found = await api.get<PickList | null>("api/picks", { name, species: this.kind });
      if (this.name !== name) return;
      this.picks = found;
      if (found !== null) {
        const kept = readJson<{ of: string; count: number }>(this.countKey);
        this.count = kept?.of === picksId(found) ? Math.min(kept.count, found.x.length) : found.chosen;
        for (const warning of found.warnings) this.tell("warning", `${name}: ${warning}`);
      }
    } catch (error) {
      this.failed(error);
    }
  }

  async loadSuggested(): Promise<void> {
    try {
      this.suggested = (await api.get<{ places: Place[] }>("api/suggested")).places;
    } catch (error) {
      this.failed(error);
    }
  }

  /** How many picks there are: `412 picks of ribosome in 4 tomograms`. */
  private pickWords(): string {
    const found = this.state?.tomograms.filter((one) => Object.keys(one.picks).length > 0) ?? [];
    const total = (species: string): number => found.reduce((sum, one) => sum + (one.picks[species] ?? 0), 0);
    const words = this.speciesList.map((one) => `${counted(total(one.name), "pick")} of ${one.name}`);
    return `${words.join(", ")} in ${counted(found.length, "tomogram")}`;
  }

  private async jobEnded(job: Job): Promise<void> {
    if (job.state === "failed" || job.state === "partly") {
      this.tell("error", `${job.kind} ${job.state === "failed" ? "failed" : "is done, but some failed"}: ${whyEnded(job.lines)}`);
    }
    if (job.kind === "convert" && this.facts === null && this.name) await this.open(this.name);
    if (job.kind === "run" || job.kind === "candidates") {
      if (job.kind === "run") {
        this.version++;
        if (job.state === "done") this.tell("info", `${this.pickWords()}. Look at them in the gallery, and reject what is wrong.`);
        const name = this.name;
        const facts = name === "" ? null : await api.get<Facts>("api/tomogram", { name }).catch(() => null);
        if (facts !== null && facts.name === this.name) this.facts = facts;
      }
      await this.loadPicks();
    }
    if (job.kind === "suggest") await this.loadSuggested();
  }

  // ---- clicks --------------------------------------------------------------------------------------------------------------------

  clickAt(point: Point, label: 0 | 1): Click {
    return { tomogram: this.name, species: this.kind, ...this.toAngstrom(this.clamped(point)), label };
  }

  /** The click whose ball holds a point, the nearest; null if there is none. */
  clickNear(point: Point): Click | null {
    let best: Click | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const click of this.here) {
      const v = this.toVoxels(click);
      const distance = Math.hypot(v.z - point.z, v.y - point.y, v.x - point.x);
      if (distance < Math.max(this.radiusOf(click.species) * 0.8, 2) && distance < least) {
        best = click;
        least = distance;
      }
    }
    return best;
  }

  add(point: Point, label: 0 | 1 = this.negative ? 0 : 1): void {
    if (this.facts === null) return; // without its spacing a voxel is nowhere
    const click = this.clickAt(point, label);
    this.act([{ table: "clicks", remove: [], add: [click] }]);
    this.selected = click;
  }

  /** A click at a place: what is there goes, else one comes. */
  toggle(point: Point, label: 0 | 1 = this.negative ? 0 : 1): void {
    if (this.facts === null) return;
    const found = this.clickNear(point);
    if (found === null) this.add(point, label);
    else if (found.label === label) this.remove(found);
    else this.relabel(found, label);
  }

  remove(click: Click): void {
    this.act([{ table: "clicks", remove: [click], add: [] }]);
    if (this.selected !== null && sameClick(this.selected, click)) this.selected = null;
  }

  move(click: Click, point: Point): void {
    if (this.facts === null) return;
    const moved = { ...click, ...this.toAngstrom(point) };
    this.act([{ table: "clicks", remove: [click], add: [moved] }]);
    this.selected = moved;
  }

  relabel(click: Click, label: 0 | 1): void {
    const changed: Click = { ...click, label };
    this.act([{ table: "clicks", remove: [click], add: [changed] }]);
    this.selected = changed;
  }

  /** Whether a click speaks of a place: it lies within half a radius, as a click by hand is never quite where the pick is. */
  private speaksOf(click: Click, place: Omit<Click, "label">): boolean {
    const near = (this.radiusOf(place.species) * this.spacing) / 2;
    return (
      click.tomogram === place.tomogram && click.species === place.species &&
      Math.hypot(click.x - place.x, click.y - place.y, click.z - place.z) <= near
    );
  }

  /** What a person says of a place in the gallery: keep (1), reject (0), unsure (null). */
  judge(place: Omit<Click, "label">, verdict: 0 | 1 | null): void {
    const old = this.clicks.filter((click) => this.speaksOf(click, place));
    const oldUnsure = this.unsure.filter((click) => this.speaksOf(click, place));
    const row = { tomogram: place.tomogram, species: place.species, x: place.x, y: place.y, z: place.z };
    const isSaid = verdict !== null && old.length > 0 && old.every((click) => click.label === verdict);
    const patches: Patch[] = [];
    if (!isSaid && (old.length > 0 || verdict !== null)) {
      patches.push({ table: "clicks", remove: old, add: verdict === null ? [] : [{ ...row, label: verdict }] });
    }
    if (verdict === null) patches.push({ table: "unsure", remove: oldUnsure, add: [{ ...row, label: 1 }] });
    else if (oldUnsure.length > 0) patches.push({ table: "unsure", remove: oldUnsure, add: [] });
    this.act(patches);
  }

  verdictOf(place: Omit<Click, "label">): "kept" | "rejected" | "unsure" | null {
    const found = this.clicks.find((click) => this.speaksOf(click, place));
    if (found !== undefined) return found.label === 1 ? "kept" : "rejected";
    return this.unsure.some((click) => this.speaksOf(click, place)) ? "unsure" : null;
  }

  undo(): void {
    this.queue(this.history.undo());
  }

  redo(): void {
    this.queue(this.history.redo());
  }

  private act(patches: Patch[]): void {
    if (patches.length === 0) return;
    if (this.onlyLooking !== null) {
      this.tell("warning", this.onlyLooking);
      return;
    }
    this.history.note(patches);
    this.queue(patches);
  }

  private queue(patches: Patch[]): void {
    this.canUndo = this.history.canUndo;
    this.canRedo = this.history.canRedo;
    if (patches.length === 0) return;
    this.setPending([...this.pending, ...patches]);
    this.isSaved = false;
    void this.send();
  }

  /** What is not saved is kept in the browser too: a page that outlives its server can never send it. */
  private setPending(patches: Patch[]): void {
    this.pending = patches;
    if (patches.length === 0) localStorage.removeItem(this.unsentKey);
    else localStorage.setItem(this.unsentKey, JSON.stringify({ table: this.state?.table, patches } satisfies Unsent));
  }

  /** Send what earlier pages could not.  Should such a page still live and send it too, nothing is added twice. */
  private adoptUnsent(): void {
    const table = this.state?.table;
    if (table === undefined) return;
    for (const key of Object.keys(localStorage).filter((one) => one.startsWith(UNSENT) && one !== this.unsentKey)) {
      const kept = JSON.parse(localStorage.getItem(key)!) as Unsent;
      if (kept.table !== table) continue;
      this.queue(kept.patches);
      localStorage.removeItem(key);
      this.tell("info", `${counted(kept.patches.length, "change")} that an earlier page could not save ${kept.patches.length === 1 ? "is" : "are"} saved now.`);
    }
  }

  private async send(): Promise<void> {
    if (this.isSending) return;
    this.isSending = true;
    try {
      while (this.pending.length > 0) {
        const patch = this.pending[0]!;
        const answer = await api.post<api.ClickAnswer>("api/clicks", patch);
        this.setPending(this.pending.slice(1));
        if (patch.table === "clicks") {
          this.hear(answer);
          if (answer.missing.length > 0) this.tell("warning", "That click had been moved or removed by another page or program meanwhile; nothing was overwritten.");
        } else this.savedUnsure = answer.clicks;
      }
      this.isSaved = true;
    } catch (error) {
      this.failed(error);
      if (error instanceof api.Refused && error.status === 400 && !error.message.includes("clicks ")) {
        this.setPending(this.pending.slice(1)); // what the server will never take must not block the rest
      }
    } finally {
      this.isSending = false;
    }
  }

  private hear(answer: api.ClickAnswer): void {
    const others = answer.added_by_others + answer.removed_by_others;
    if (this.revision >= 0 && others > 0) {
      this.tell("info", `The table of clicks was changed by another program: ${counted(answer.added_by_others, "row")} came, ${answer.removed_by_others} went. Both are merged.`);
    }
    if (this.revision < 0 && answer.unreadable > 0) {
      this.tell("warning", `${counted(answer.unreadable, "row")} of the table can’t be shown: of tomograms that are not open here. Nothing is changed there.`);
    }
    this.notices = this.notices.filter((one) => !one.text.startsWith("clicks ")); // that it could not be read is over
    this.saved = answer.clicks;
    if (answer.unsure !== undefined) this.savedUnsure = answer.unsure;
    this.revision = answer.revision;
  }

  // ---- looking -------------------------------------------------------------------------------------------------------------------

  goTo(point: Point): void {
    this.at = this.clamped(point);
    const { width, height } = this.window;
    const isFar = Math.abs(point.x - this.centre.x) * this.zoom > 0.4 * width || Math.abs(point.y - this.centre.y) * this.zoom > 0.4 * height;
    if (!isFar) return; // the picture stands still as long as the place is well in sight
    const within = (value: number, size: number, room: number): number =>
      size <= room ? (size - 1) / 2 : Math.min(Math.max(value, room / 2 - 0.5), size - room / 2 - 0.5);
    const [, y, x] = this.shape;
    this.centre = { z: this.at.z, y: within(this.at.y, y, height / this.zoom), x: within(this.at.x, x, width / this.zoom) };
  }

  goToClick(click: Click | Place): void {
    const go = (): void => {
      this.goTo(this.toVoxels(click));
      this.selected = "label" in click ? click : null;
    };
    if (click.tomogram === this.name) go();
    else void this.open(click.tomogram).then(go);
  }

  step(axis: "z" | "y" | "x", by: number): void {
    this.at = this.clamped({ ...this.at, [axis]: Math.round(this.at[axis]) + by });
  }

  nextClick(by: number): void {
    const list = this.here;
    if (list.length === 0) return;
    const now = this.selected === null ? -1 : list.findIndex((one) => sameClick(one, this.selected!));
    const next = now < 0 ? (by > 0 ? 0 : list.length - 1) : (now + by + list.length) % list.length;
    this.goToClick(list[next]!);
  }

  clamped(point: Point): Point {
    const [z, y, x] = this.shape;
    const within = (value: number, size: number): number => Math.min(Math.max(value, 0), size - 1);
    return { z: within(point.z, z), y: within(point.y, y), x: within(point.x, x) };
  }

  private get countKey(): string {
    return `tomostream.count.${this.name}.${this.kind}`;
  }

  setCount(count: number): void {
    this.count = Math.round(Math.min(Math.max(count, 0), this.picks?.x.length ?? 0));
    if (this.picks === null) return;
    localStorage.setItem(this.countKey, JSON.stringify({ of: picksId(this.picks), count: this.count }));
  }

  saveLook(): void {
    localStorage.setItem("tomostream.look", JSON.stringify(this.look));
    localStorage.setItem("tomostream.tab", this.tab);
    if (this.facts !== null) {
      localStorage.setItem(`tomostream.at.${this.facts.name}`, JSON.stringify(this.position));
    }
  }

  private restoreLook(): void {
    this.look = { ...LOOK, ...readJson<Partial<Look>>("tomostream.look") };
    const tab = localStorage.getItem("tomostream.tab") as Tab | null;
    if (tab !== null && TABS.includes(tab)) this.tab = tab;
  }

  // ---- commands ------------------------------------------------------------------------------------------------------------------

  async start(body: Record<string, unknown>): Promise<void> {
    try {
      await api.post("api/start", body);
      const kind = String(body["kind"]);
      this.jobStates.set(kind, "running");
      await this.refresh();
    } catch (error) {
      this.failed(error);
    }
  }

  async stop(kind: string): Promise<void> {
    try {
      await api.post("api/stop", { kind });
      await this.refresh();
    } catch (error) {
      this.failed(error);
    }
  }

  // ---- telling -------------------------------------------------------------------------------------------------------------------

  tell(kind: Notice["kind"], text: string): void {
    if (this.notices.some((one) => one.text === text)) return;
    const id = this.nextNotice++;
    this.notices = [...this.notices, { id, kind, text }].slice(-5);
    if (kind === "info") setTimeout(() => this.dismiss(id), 8000);
  }

  dismiss(id: number): void {
    this.notices = this.notices.filter((one) => one.id !== id);
  }

  /** What becomes of changes that this page can't save any more. */
  get rescue(): string {
    const n = this.pending.length;
    if (n === 0) return "";
    return ` ${counted(n, "change")} ${n === 1 ? "is" : "are"} not saved: kept in this browser, and saved when you open here what \`tomostream view --port ${location.port}\` prints, on the same table.`;
  }

  failed(error: unknown): void {
    if (error instanceof api.Refused && (error.status === 403 || error.status === 0)) this.isGone = error.message;
    else this.tell("error", (error as Error).message);
  }
}

const ERROR = "tomostream: error: ";
const MOST_REASONS = 3;

/** The error that a command ended with, and the first rows of its table of failures. */
function whyEnded(lines: string[]): string {
  const at = lines.map((line) => line.startsWith(ERROR)).lastIndexOf(true);
  if (at < 0) return lines.at(-1) ?? "it said nothing";
  const rows = lines.slice(at + 1);
  const shown = [lines[at]!.replace(ERROR, ""), ...rows.slice(0, MOST_REASONS).map((row) => row.trim())];
  return [...shown, ...(rows.length > MOST_REASONS ? ["..."] : [])].join("\n");
}

function applied(saved: Click[], pending: Patch[], table: "clicks" | "unsure"): Click[] {
  let rows = saved;
  for (const patch of pending) {
    if (patch.table !== table) continue;
    rows = rows.filter((row) => !patch.remove.some((gone) => sameClick(gone, row)));
    rows = [...rows, ...patch.add.filter((fresh) => !rows.some((row) => sameClick(fresh, row)))];
  }
  return rows;
}

/** What a count of picks belongs to: another round, or project, makes others.  More candidates of the same picks keep it. */
function picksId(picks: PickList): string {
  return [picks.chosen, picks.x[0], picks.y[0], picks.z[0], picks.score[0], picks.score[picks.chosen - 1]].join(" ");
}

/** What the browser keeps under a name; null if that is nothing, or of another form. */
function readJson<T>(key: string): T | null {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") as T | null;
  } catch {
    return null;
  }
}

export const bench = new Workbench();
