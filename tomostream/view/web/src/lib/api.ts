// What the server is asked, and what it answers.  Positions of tables are angstrom; tiles are in voxels of their level.

import type { Expected } from "./scores";

export type Axis = "z" | "y" | "x";

export interface Click {
  tomogram: string;
  species: string;
  x: number;
  y: number;
  z: number;
  label: 0 | 1;
}

export interface ClickAnswer {
  clicks: Click[];
  revision: number;
  missing: Click[];
  added_by_others: number;
  removed_by_others: number;
  unreadable: number;
  unsure?: Click[];
}

export interface TomogramState {
  name: string;
  state: "ready" | "converting" | "unconverted" | "failed" | "missing";
  share: number | null;
  problem: string | null;
  picks: Record<string, number>;
  has_scores: boolean;
}

export interface Job {
  kind: string;
  about: string;
  state: "running" | "done" | "partly" | "stopped" | "failed";
  lines: string[];
  seconds: number;
  progress: {
    stage: string | null;
    stages: string[];
    tomograms: number | null;
    done: Record<string, number>;
    failed: Record<string, string>;
    doing: string | null;
  } | null;
}

export interface Species {
  name: string;
  radius: string;
  expected: number | Record<string, number> | null;
}

export interface State {
  version: string;
  project: string;
  config: string | null;
  is_ours: boolean;
  table: string;
  only_looking: string | null;
  species: Species[];
  tomograms: TomogramState[];
  jobs: Job[];
  formats: Record<string, { one_tomogram: boolean; ending: string; options: { name: string; help: string; metavar: string }[] }>;
  exported: string[];
  has_truth: boolean;
  voxel_size: number | null;
  minutes: number | null;
  rounds: { has_model: boolean; metrics: Record<string, Record<string, number[]>> };
}

export interface Facts {
  name: string;
  spacing: number;
  levels: { shape: [number, number, number] }[];
  dtype: string;
  warnings: string[];
  scores: Record<string, { levels: { shape: [number, number, number] }[] }>;
}

export interface PickList {
  x: number[];
  y: number[];
  z: number[];
  score: (number | null)[];
  chosen: number;
  warnings: string[];
  curve: { threshold: number[]; tp: number[]; fp: number[]; truths: number } | null;
  expected: Expected | null;
}

export interface Place {
  tomogram: string;
  species: string;
  x: number;
  y: number;
  z: number;
  score: number | null;
}

/** The server said no, and why. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function answered(response: Response): Promise<Response> {
  if (response.ok) return response;
  if (response.status === 403) {
    throw new Refused(403, "The server was started again: close this page and open the address that `tomostream view` printed last.");
  }
  const text = await response.text();
  let message = text;
  try {
    message = (JSON.parse(text) as { error: string }).error;
  } catch {
    // not ours: shown as it is
  }
  throw new Refused(response.status, message || `the server answered ${response.status}`);
}

async function reached(path: string, init?: RequestInit): Promise<Response> {
  try {
    return await answered(await fetch(path, init));
  } catch (error) {
    if (error instanceof Refused || (error instanceof DOMException && error.name === "AbortError")) throw error;
    throw new Refused(0, "The server does not answer. Is `tomostream view` still running?");
  }
}

export async function get<T>(path: string, query: Record<string, string> = {}): Promise<T> {
  const text = new URLSearchParams(query).toString();
  return (await (await reached(text ? `${path}?${text}` : path)).json()) as T;
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  return (await (await sent(path, body)).json()) as T;
}

export async function postForBytes(path: string, body: unknown): Promise<{ bytes: Uint8Array; headers: Headers }> {
  const response = await sent(path, body);
  return { bytes: new Uint8Array(await response.arrayBuffer()), headers: response.headers };
}

export async function getBytes(path: string, signal: AbortSignal): Promise<Uint8Array> {
  return new Uint8Array(await (await reached(path, { signal })).arrayBuffer());
}

function sent(path: string, body: unknown): Promise<Response> {
  return reached(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}
