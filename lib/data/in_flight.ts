/** How many pixels are decoded beside one another. @module */

/** About 200 MB of red, green and blue. An image of more is decoded alone. */
export const MOST_IN_FLIGHT = 2 ** 26;

let inFlight = 0;
const waiting: (() => void)[] = [];

/** Does work on so many pixels as soon as there is room for them, in this whole process. */
export async function withRoom<T>(pixels: number, work: () => Promise<T>): Promise<T> {
  while (inFlight > 0 && inFlight + pixels > MOST_IN_FLIGHT) {
    await new Promise<void>((go) => waiting.push(go));
  }
  inFlight += pixels;
  try {
    return await work();
  } finally {
    inFlight -= pixels;
    for (const go of waiting.splice(0)) go();
  }
}
