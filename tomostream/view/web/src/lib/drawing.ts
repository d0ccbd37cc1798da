// How places are drawn on a slice.

/** A circle with a dark rim, so that it shows on light and on dark. */
export function ring(context: CanvasRenderingContext2D, x: number, y: number, r: number, colour: string, line: number, dash: number[] = []): void {
  context.setLineDash([]);
  context.lineWidth = line + 2;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.stroke();
  context.setLineDash(dash);
  context.lineWidth = line;
  context.strokeStyle = colour;
  context.stroke();
  context.setLineDash([]);
}

/** A cross in a circle's middle. */
export function cross(context: CanvasRenderingContext2D, x: number, y: number, arm: number): void {
  context.beginPath();
  context.moveTo(x - arm, y - arm);
  context.lineTo(x + arm, y + arm);
  context.moveTo(x + arm, y - arm);
  context.lineTo(x - arm, y + arm);
  context.stroke();
}

/** The colour of a score between the worst and the best, as a share. */
export function scoreShare(score: number, worst: number, best: number): number {
  return best > worst ? (score - worst) / (best - worst) : 1;
}

/** Paint grey values through a table of colours. */
export function painted(grey: Uint8Array, rows: number, columns: number, colours: Uint32Array): ImageData {
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < grey.length; i++) pixels[i] = colours[grey[i]!]!;
  return image;
}
