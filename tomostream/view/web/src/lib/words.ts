// How numbers and lengths are written for readers.

export const counted = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

/** A length of the configuration (`135A`, `10vox`). */
export const spoken = (length: string | null): string => (length ?? "").replace(/A$/, " Å").replace(/vox$/, " voxels");

/** Whether a field of a form holds something; an emptied number field holds null. */
export const isGiven = (value: unknown): boolean => value !== "" && value !== null && value !== undefined;
