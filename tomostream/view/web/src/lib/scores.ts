// Counting picks by their score: scores fall from the first to the last.

/** What an evaluation counted at each threshold, falling. */
export interface Curve {
  threshold: ArrayLike<number>;
  tp: ArrayLike<number>;
  fp: ArrayLike<number>;
  truths: number;
}

/** What the run that chose picks expects of them, or why it can't tell. */
export interface Expected {
  f1: number | null;
  precision: number | null;
  doubt: string | null;
}

export interface Counts {
  tp: number;
  fp: number;
  truths: number;
}

/** How many of the scores are at least so high. */
export function countAbove(scores: ArrayLike<number>, threshold: number): number {
  let low = 0;
  let high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle]! >= threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Found and false picks at a threshold. */
export function countsAt(curve: Curve, threshold: number): Counts {
  const at = countAbove(curve.threshold, threshold) - 1;
  return { tp: at < 0 ? 0 : curve.tp[at]!, fp: at < 0 ? 0 : curve.fp[at]!, truths: curve.truths };
}

export interface Quality {
  precision: number;
  recall: number;
  f1: number;
}

export function qualityOf({ tp, fp, truths }: Counts): Quality {
  const precision = tp + fp > 0 ? tp / (tp + fp) : 0;
  const recall = truths > 0 ? tp / truths : 0;
  return { precision, recall, f1: precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : 0 };
}

/** A score as text. */
export function scoreText(value: number): string {
  return Math.abs(value) >= 100 || (Math.abs(value) < 0.001 && value !== 0) ? value.toExponential(2) : value.toFixed(3);
}
