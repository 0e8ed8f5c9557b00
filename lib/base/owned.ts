/** What is let go of at the end of a block. @module */

/** `using own = owned(step, tensor)` disposes of them where its block ends, by whatever way. */
export function owned(...things: readonly { dispose(): void }[]): Disposable {
  return {
    [Symbol.dispose]() {
      for (const thing of things) thing.dispose();
    },
  };
}
