/** Why a target was missed and what was tried, by the name of its row: shown where the row is missed. Written by hand. */
export const notes: Readonly<Record<string, string>> = {}
