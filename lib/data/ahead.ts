/** Work begun before its turn, and as much of it at once as memory has room for. @module */

/**
 * What `make` gives for 0 to `count`, in order, up to `most` of them begun ahead of their turn. What has begun is waited for where
 * the caller leaves early: a process that ends while native code decodes an image crashes.
 */
export async function* ahead<T>(
  count: number,
  make: (i: number) => Promise<T>,
  most = Math.min(32, 4 * navigator.hardwareConcurrency),
): AsyncGenerator<T> {
  const pending: Promise<T>[] = [];
  try {
    for (let i = 0, done = 0; done < count; done++) {
      for (; i < count && pending.length < most; i++) {
        const made = make(i);
        made.catch(() => {}); // it is thrown when its turn comes
        pending.push(made);
      }
      yield await pending.shift()!;
    }
  } finally {
    await Promise.allSettled(pending);
  }
}

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
